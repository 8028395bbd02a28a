"""What a handler may not say is refused, and what it says is signed with its algorithm."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from node.api import (
    Basis,
    Certainty,
    Finding,
    Handler,
    HeatMap,
    Measurement,
    Reading,
    Region,
    Segmentation,
    Terms,
    Tier,
)
from node.domain.findings import Analysis, Status
from node.domain.models import ModelCard, Tensor
from node.domain.study import Instance, Series, Study
from node.errors import HandlerError
from node.infer.reading import analysis_of, failed_analysis, not_evaluable_analysis

ROWS, COLUMNS = 4, 6
TRIANGLE = ((0.0, 0.0), (6.0, 0.0), (6.0, 4.0))
HANDLER = Handler(
    name="chest",
    version="1.2",
    manufacturer="Physics",
    basis=Basis.LEARNED,
    template="chest_xray",
    terms=Terms(("DX",)),
    analyse=lambda study, models: Reading(("2.25.10",)),
    parameters=(("threshold", "0.5"),),
    not_looked_at=("bones",),
)
CARD = ModelCard(
    "lungs", "1", "Physics", "m.onnx", "a" * 64, "MIT", "p", "q", ("l",), ("n",),
    (Tensor("x", (1,)),), (Tensor("y", (1,)),), 0.5,
)  # fmt: skip


def instance(uid: str) -> Instance:
    return Instance(uid, "2.25.3", "1.2", "2.25.2", Path("/absent"), 1, "0" * 64)


STUDY = Study("2.25.1", 1, (Series("2.25.2", "DX", (instance("2.25.10"), instance("2.25.11"))),))


def full_reading() -> Reading:
    region = Region("2.25.10", TRIANGLE)
    finding = Finding(
        "opacity-1",
        "opacity",
        (Measurement("volume", 1.5, "ml"),),
        (region,),
        laterality="R",
        score=0.7,
        certainty=Certainty(0.8, Tier.HIGH),
    )
    picture = np.full((ROWS, COLUMNS), 0.5, np.float32)
    heat_map = HeatMap("2.25.10", picture, picture, "score", 0.7, 0.5, ((region, "1"),), spacing_mm=(0.5, 0.5))
    mask = np.zeros((2, ROWS, COLUMNS), np.bool_)
    segmentation = Segmentation("lung", mask, np.eye(4), ("2.25.10", "2.25.11"), "opacity-1")
    return Reading(("2.25.10", "2.25.11"), (finding,), (heat_map,), (segmentation,))


def analysis(reading: object, handler: Handler = HANDLER) -> Analysis:
    return analysis_of(reading, handler, STUDY, cards=[CARD], device="CPU", size_of=lambda uid: (ROWS, COLUMNS, 1))


def test_a_reading_is_signed_with_its_algorithm() -> None:
    result = analysis(full_reading())
    assert result.status is Status.FINDINGS
    assert (result.algorithm.name, result.algorithm.version) == ("chest", "1.2")
    assert result.algorithm.weights_sha256 == CARD.sha256
    assert result.algorithm.parameters == (("threshold", "0.5"),)
    assert result.not_looked_at == ("bones",)
    assert result.template == "chest_xray"
    assert result.findings == full_reading().findings


def test_a_measurement_of_normal_anatomy_is_no_finding() -> None:
    normal = Finding("brain", "brain", (Measurement("volume", 1400.0, "ml"),), is_abnormal=False)
    assert analysis(Reading(("2.25.10",), (normal,))).status is Status.NO_FINDINGS
    assert analysis(Reading(("2.25.10",))).status is Status.NO_FINDINGS


def test_lists_and_numpy_floats_become_plain_values() -> None:
    finding = Finding("f", "k", [Measurement("volume", np.float64(2.0), "ml")])  # type: ignore[arg-type]
    result = analysis(Reading(["2.25.10"], [finding]))  # type: ignore[arg-type]
    assert result.source_uids == ("2.25.10",)
    assert type(result.findings[0].measurements[0].value) is float


def of_finding(**changes: object) -> Callable[[Reading], Reading]:
    return lambda reading: replace(reading, findings=(replace(reading.findings[0], **changes),))  # type: ignore[arg-type]


def of_heat_map(**changes: object) -> Callable[[Reading], Reading]:
    return lambda reading: replace(reading, heat_maps=(replace(reading.heat_maps[0], **changes),))  # type: ignore[arg-type]


def of_segmentation(**changes: object) -> Callable[[Reading], Reading]:
    def change(reading: Reading) -> Reading:
        return replace(reading, segmentations=(replace(reading.segmentations[0], **changes),))  # type: ignore[arg-type]

    return change


def with_nan(value: float = float("nan")) -> np.ndarray:
    picture = np.full((ROWS, COLUMNS), 0.5, np.float32)
    picture[1, 1] = value
    return picture


def outline(*points: tuple[float, float], uid: str = "2.25.10", frame: int | None = None) -> tuple[Region, ...]:
    return (Region(uid, points, frame),)


def number(value: object, unit: str = "ml") -> tuple[Measurement, ...]:
    return (Measurement("volume", value, unit),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda reading: None, "expected a Reading, found NoneType"),
        (lambda reading: replace(reading, source_uids=()), "source_uids must name"),
        (lambda reading: replace(reading, source_uids=("2.25.99",)), "must all belong to the Series"),
        (lambda reading: replace(reading, findings=reading.findings * 2), "finding_id of its own"),
        (lambda reading: replace(reading, findings=("a",)), "expected Finding"),
        (of_finding(finding_id=""), "finding_id of its own"),
        (of_finding(kind=""), "must have a kind"),
        (of_finding(laterality="left"), "laterality must be"),
        (of_finding(score=float("nan")), "score must be a finite number"),
        (of_finding(is_abnormal=np.True_), "expected a plain value"),
        (of_finding(certainty=Certainty(1.01, Tier.HIGH)), "probability must be 0 to 1"),
        (of_finding(certainty=Certainty(float("nan"), Tier.HIGH)), "probability must be 0 to 1"),
        (of_finding(certainty=0.5), "certainty"),
        (of_finding(measurements=number(float("nan"))), "measurement volume must be a finite number"),
        (of_finding(measurements=number(float("inf"))), "measurement volume must be a finite number"),
        (of_finding(measurements=number(np.float32(1))), "expected a plain value, found float32"),
        (of_finding(measurements=number("1")), "expected float, found str"),
        (of_finding(measurements=number(True)), "expected float, found bool"),
        (of_finding(measurements=number(1.0, "")), "a UCUM unit"),
        (of_finding(regions=outline((0, 0), (1, 0))), "fewer than 3 points"),
        (of_finding(regions=outline((0, 0), (6.1, 0), (1, 1))), "outside its image of 4 rows and 6 columns"),
        (of_finding(regions=outline((0, 0), (4, 4.5), (1, 1))), "outside its image"),
        (of_finding(regions=outline((0, 0), (float("nan"), 0), (1, 1))), "outside its image"),
        (of_finding(regions=outline(*TRIANGLE, uid="2.25.99")), "not in source_uids"),
        (of_finding(regions=outline(*TRIANGLE, frame=2)), "on frame 2, the image has 1"),
        (of_finding(regions=outline(*TRIANGLE, frame=0)), "on frame 0"),
        (of_heat_map(sop_instance_uid="2.25.99"), "not in source_uids"),
        (of_heat_map(heat=with_nan()), "heat must be finite"),
        (of_heat_map(heat=with_nan(1.5)), "heat must be 0 to 1"),
        (of_heat_map(background=with_nan(-0.1)), "background must be 0 to 1"),
        (of_heat_map(heat=np.zeros((ROWS, COLUMNS + 1), np.float32)), "source image's shape"),
        (of_heat_map(background=np.zeros((COLUMNS, ROWS), np.float32)), "source image's shape"),
        (of_heat_map(heat=np.zeros((ROWS, COLUMNS))), "must be float32, found float64"),
        (of_heat_map(heat=[[0.0]]), "heat"),
        (of_heat_map(score=float("nan")), "score and threshold"),
        (of_heat_map(spacing_mm=(0.0, 1.0)), "spacing_mm must be positive"),
        (of_heat_map(regions=((Region("2.25.10", ((9.0, 9.0),) * 3), "1"),)), "outside its image"),
        (of_segmentation(mask=np.zeros((2, ROWS, COLUMNS))), "mask must be bool"),
        (of_segmentation(mask=np.zeros((ROWS, COLUMNS), np.bool_)), "mask must be bool"),
        (of_segmentation(sop_instance_uids=("2.25.10",)), "one image for each slice"),
        (of_segmentation(sop_instance_uids=("2.25.10", "2.25.99")), "not in source_uids"),
        (of_segmentation(affine=np.eye(3)), "affine must be"),
        (of_segmentation(affine=np.full((4, 4), np.nan)), "affine must be finite"),
        (of_segmentation(finding_id="other"), "a finding that is not there"),
    ],
)
def test_what_cannot_be_true_is_refused(spoil: Callable[[Reading], object], said: str) -> None:
    with pytest.raises(HandlerError, match=rf"handler chest: .*{said}"):
        analysis(spoil(full_reading()))


def test_a_rule_must_not_state_a_probability() -> None:
    rule = replace(HANDLER, basis=Basis.RULE_BASED)
    with pytest.raises(HandlerError, match="must not state a probability"):
        analysis(full_reading(), rule)
    reading = of_finding(certainty=None)(full_reading())
    assert analysis(reading, rule).algorithm.basis is Basis.RULE_BASED


def test_a_refusal_keeps_its_reason_and_key() -> None:
    result = not_evaluable_analysis(HANDLER, STUDY, "a lateral view", key="view", cards=[], device="CPU")
    assert (result.status, result.reason, result.reason_key) == (Status.NOT_EVALUABLE, "a lateral view", "view")
    assert result.source_uids == ("2.25.10", "2.25.11")
    with pytest.raises(HandlerError, match="without a reason"):
        not_evaluable_analysis(HANDLER, STUDY, " ", key="", cards=[], device="CPU")


def test_a_failure_is_an_analysis_too() -> None:
    result = failed_analysis(HANDLER, STUDY, "stopped at its time limit of 300 s")
    assert (result.status, result.reason) == (Status.FAILED, "stopped at its time limit of 300 s")
    assert result.source_uids == ("2.25.10", "2.25.11")
    assert result.algorithm.name == "chest"
