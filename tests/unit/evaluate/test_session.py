"""From films on disk to a report: the truth of the phantoms comes back as figures, and nothing is left out."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from node.errors import EvaluationError
from node.evaluate.evaluation import Evaluation, Kind
from node.evaluate.interval import Resampling
from node.evaluate.records import Outcome
from node.evaluate.running import open_application
from node.evaluate.session import Request, evaluate
from node.evaluate.write import SCHEMA, plain_report, write_report
from node.settings import InferSettings
from tests.unit.evaluate.results import value
from tests.unit.evaluate.sites import box_of, write_ball, write_film, write_site

SETTINGS = InferSettings(max_time_s=60.0, max_memory_mb=4096, threads=1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEAD = "study_uid,label,kind,box,patient\n"
MISSING = "2.25.404"


def _films(folder: Path) -> str:
    """Five films: found, found beside a false mark, missed, rightly silent, refused, broken; and one without images."""
    rows = []

    def film(
        name: str, label: int, squares: list[tuple[int, int, float]], lesions: list[tuple[int, int]], **header: object
    ) -> None:
        uid = write_film(folder, name, squares, seed=len(rows), **header)
        rows.extend(f"{uid},{label},bright,{box_of(*place)},P-{name}" for place in lesions)
        if not lesions:
            rows.append(f"{uid},{label},bright,,P-{name}")

    film("found", 1, [(20, 20, 0.9)], [(20, 20)])
    film("beside", 1, [(60, 60, 0.8), (10, 70, 0.7)], [(60, 60)], ManufacturerModelName="Two")
    film("missed", 1, [(40, 40, 0.5)], [(40, 40)])
    film("silent", 0, [], [])
    film("refused", 1, [(20, 20, 0.9)], [(20, 20)], BodyPartExamined="HAND")
    film("broken", 0, [], [], SeriesDescription="broken")
    return HEAD + "\n".join([*rows, f"{MISSING},1,bright,,"]) + "\n"


def _request(site: Path, folder: Path, out: Path, **more: object) -> Request:
    return Request(
        application=open_application(site, "bright"), data=folder / "data", labels=folder / "labels.csv", out=out,
        settings=SETTINGS, resampling=Resampling(200, 1), **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    (folder / "labels.csv").write_text(_films(folder / "data"), encoding="utf-8")
    write_film(folder / "data", "unlabelled")
    (folder / "data" / "notes.txt").write_text("no image", encoding="utf-8")
    write_film(folder / "other", "hand", [(20, 20, 0.9)], BodyPartExamined="HAND")
    write_film(folder / "other", "chest again", [(20, 20, 0.9)])
    write_site(folder / "site")
    write_site(folder / "newer", version="2.0", threshold=0.45)
    return folder


@pytest.fixture(scope="module")
def found(place: Path) -> Evaluation:
    request = _request(
        place / "site", place, place / "out", second=open_application(place / "newer", "bright"),
        wrong_anatomy=place / "other", removes_lesions=True,
    )  # fmt: skip
    return evaluate(request, made_at=NOW)


@pytest.fixture
def kind(found: Evaluation) -> Kind:
    (one,) = found.kinds
    return one


def test_every_case_is_counted_whatever_became_of_it(found: Evaluation, kind: Kind) -> None:
    assert kind.table == {
        "positive": {"called": 2, "silent": 1, "not_evaluable": 1, "missing": 1},
        "negative": {"silent": 1, "failed": 1},
    }
    data = found.data
    assert (data.studies, data.labelled, data.unlabelled, data.missing) == (7, 6, 1, 1)
    assert (data.unreadable_files, data.patients) == (1, 6)
    assert ("not_evaluable", "not_chest", 1) in kind.reasons
    assert any(outcome == "failed" and "ValueError at bright.py" in reason for outcome, reason, _ in kind.reasons)


def test_the_figures_are_those_of_the_phantoms(kind: Kind) -> None:
    assert value(kind.estimates, "sensitivity").value == pytest.approx(2 / 3)
    assert value(kind.estimates, "sensitivity_all").value == pytest.approx(2 / 4)
    assert value(kind.estimates, "specificity").value == 1.0
    assert value(kind.estimates, "evaluable").value == pytest.approx(4 / 6)
    assert value(kind.estimates, "lesion_sensitivity").value == pytest.approx(2 / 3)
    assert value(kind.estimates, "false_marks_per_case").value == pytest.approx(1 / 4)
    assert value(kind.estimates, "auc").value == 1.0  # a silent case is ranked by the peak of its heat map
    assert value(kind.estimates, "ap", "IoU 0.5").value == pytest.approx(2 / 3)
    assert value(kind.estimates, "pointing").value == 1.0
    energy, area = (value(kind.estimates, name).value for name in ("energy_inside", "area_inside"))
    assert area == pytest.approx(12 * 12 / 96**2)
    assert energy is not None
    assert area is not None
    assert energy > 10 * area
    assert {one.scanner: one.cases for one in kind.scanners} == {"Phantom One": 5, "Phantom Two": 1}


def test_a_second_version_is_compared_on_the_cases_both_have_read(found: Evaluation, kind: Kind) -> None:
    assert found.compared_with is not None
    assert found.compared_with.version == "2.0"
    (sensitivity,) = [one for one in kind.differences if one.metric == "sensitivity"]
    assert (sensitivity.first, sensitivity.second) == (pytest.approx(2 / 3), 1.0)
    assert (sensitivity.p, sensitivity.test) == (1.0, "mcnemar")  # one case they differ on proves nothing


def test_a_finding_goes_when_its_lesion_is_taken_out(kind: Kind) -> None:
    assert kind.removals is not None
    assert [(one.found, one.vanished, one.outcome) for one in kind.removals.cases] == [(1, 1, Outcome.READ)] * 2
    assert (kind.removals.vanished.value, kind.removals.vanished.n) == (1.0, 2)
    beside = [one for one in kind.removals.cases if one.score_after is not None and one.score_after > 0.6]
    assert len(beside) == 1  # the false mark beside the removed lesion is still there


def test_no_changed_image_stays_on_the_disk(found: Evaluation, place: Path) -> None:
    del found
    assert not list((place / "out").rglob("*.dcm"))
    assert not list((place / "out").rglob(".changed-*"))


def test_the_wrong_anatomy_is_told_by_number(found: Evaluation) -> None:
    assert found.wrong_anatomy is not None
    assert found.wrong_anatomy.refused.value == 0.5
    assert found.wrong_anatomy.outcomes == {"not_evaluable": 1, "read": 1}
    assert (found.wrong_anatomy.false_findings, len(found.wrong_anatomy.read)) == (1, 1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_fits_its_schema_and_holds_no_patient(found: Evaluation, tmp_path: Path, language: str) -> None:
    as_json, as_page = write_report(found, tmp_path, language=language)
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(as_json.read_text(encoding="utf-8")), schema)
    page = as_page.read_text(encoding="utf-8")
    for text in (as_json.read_text(encoding="utf-8"), page):
        for secret in ("CANARY", "2.25.", "P-found", "Wang", "20260301"):
            assert secret not in text
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
        "http://creativecommons.org/", ""
    )


def test_a_second_run_reads_nothing_again_and_says_the_same(found: Evaluation, place: Path) -> None:
    request = _request(place / "site", place, place / "out")
    (place / "site" / "models" / "nothing_new").mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in (place / "out" / "work").rglob("*") if path.is_file()}
    again = evaluate(request, made_at=NOW)
    after = {path: path.stat().st_mtime_ns for path in (place / "out" / "work").rglob("*") if path.is_file()}
    before.pop(place / "out" / "work" / "key.json")
    after.pop(place / "out" / "work" / "key.json")
    assert before == after
    assert again.kinds[0].estimates == found.kinds[0].estimates


def test_numbers_of_cases_stay_when_studies_are_added(place: Path, found: Evaluation, tmp_path: Path) -> None:
    del found
    key = json.loads((place / "out" / "work" / "key.json").read_text(encoding="utf-8"))
    assert sorted(key["cases"].values()) == list(range(1, 8))
    assert (place / "out" / "work" / "key.json").stat().st_mode & 0o077 == 0


def test_a_mask_gives_dice_distance_and_volume(tmp_path: Path) -> None:
    uid, mask = write_ball(tmp_path / "data", "ball")
    affine = np.array([[0, 0, 1, -100.0], [0, 1, 0, -100.0], [5, 0, 0, 0.0], [0, 0, 0, 1]])
    shifted = np.roll(mask, 2, axis=2)
    np.savez(tmp_path / "mask.npz", mask=shifted, affine=affine)
    ml = mask.sum() * 5 / 1000
    (tmp_path / "labels.csv").write_text(
        "study_uid,kind,mask,segment,quantity,value,value_unit\n"
        f"{uid},ball,mask.npz,ball,,,\n{uid},ball,,,volume,{ml + 1},ml\n",
        encoding="utf-8",
    )
    write_site(tmp_path / "site")
    (kind,) = evaluate(_request(tmp_path / "site", tmp_path, tmp_path / "out"), made_at=NOW).kinds
    expected = 2 * (mask & shifted).sum() / (2 * mask.sum())
    assert value(kind.estimates, "dice_mean", "ball").value == pytest.approx(expected)
    assert value(kind.estimates, "hd95_median", "ball").value == pytest.approx(2.0)
    assert value(kind.estimates, "bias", "volume").value == pytest.approx(-1.0)
    assert value(kind.estimates, "bias", "ball (volume)").value == pytest.approx(0.0, abs=1e-6)


def test_labels_that_do_not_fit_their_images_stop_with_the_number_of_the_case(tmp_path: Path) -> None:
    uid = write_film(tmp_path / "data", "film", [(20, 20, 0.9)])
    (tmp_path / "labels.csv").write_text(
        f"study_uid,label,sop_instance_uid,box\n{uid},1,2.25.7,1 1 5 5\n", encoding="utf-8"
    )
    write_site(tmp_path / "site")
    with pytest.raises(EvaluationError, match="case 1: a labelled box must name one image"):
        evaluate(_request(tmp_path / "site", tmp_path, tmp_path / "out"), made_at=NOW)


def test_the_plain_report_is_what_json_can_hold(found: Evaluation) -> None:
    json.dumps(plain_report(found), allow_nan=False)
