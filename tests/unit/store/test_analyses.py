"""An Analysis comes back as it was, or not at all."""

import dataclasses
import hashlib
import json
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from node.domain.algorithm import Algorithm, Basis
from node.domain.findings import (
    Analysis,
    Certainty,
    Finding,
    HeatMap,
    Measurement,
    Region,
    Segmentation,
    Status,
    Tier,
)
from node.errors import StoreError
from node.store.analyses import discard_partial, load_analysis, save_analysis

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=12)
UID = st.text(string.digits + ".", min_size=1, max_size=12)
REGIONS = st.builds(
    Region, UID, st.lists(st.tuples(FINITE, FINITE), max_size=4).map(tuple), st.none() | st.integers(1, 9)
)
CERTAINTIES = st.none() | st.builds(Certainty, st.floats(0, 1), st.sampled_from(Tier))
FINDINGS = st.builds(
    Finding,
    finding_id=TEXT,
    kind=TEXT,
    measurements=st.lists(st.builds(Measurement, TEXT, FINITE, TEXT, TEXT), max_size=2).map(tuple),
    regions=st.lists(REGIONS, max_size=2).map(tuple),
    laterality=st.sampled_from(["", "R", "L", "B"]),
    is_abnormal=st.booleans(),
    score=st.none() | FINITE,
    certainty=CERTAINTIES,
)
PICTURES = hnp.arrays(np.float32, (3, 5), elements=st.floats(0, 1, width=32))
HEAT_MAPS = st.builds(
    HeatMap,
    UID,
    PICTURES,
    PICTURES,
    TEXT,
    FINITE,
    FINITE,
    st.lists(st.tuples(REGIONS, TEXT), max_size=2).map(tuple),
    TEXT,
    st.none() | st.tuples(FINITE, FINITE),
)
SEGMENTATIONS = st.builds(
    Segmentation,
    TEXT,
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)),
    hnp.arrays(np.float64, (4, 4), elements=st.floats(-1e6, 1e6)),
    st.lists(UID, max_size=3).map(tuple),
    TEXT,
)
ANALYSES = st.builds(
    Analysis,
    status=st.sampled_from(Status),
    algorithm=st.builds(
        Algorithm,
        TEXT,
        TEXT,
        TEXT,
        st.sampled_from(Basis),
        TEXT,
        st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
        TEXT,
    ),
    template=TEXT,
    source_uids=st.lists(UID, max_size=3).map(tuple),
    findings=st.lists(FINDINGS, max_size=2).map(tuple),
    heat_maps=st.lists(HEAT_MAPS, max_size=2).map(tuple),
    segmentations=st.lists(SEGMENTATIONS, max_size=2).map(tuple),
    reason=TEXT,
    reason_key=TEXT,
    not_looked_at=st.lists(TEXT, max_size=2).map(tuple),
)


def same(one: object, other: object) -> bool:
    """Equal in type and value, arrays bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def small(value: float = 1.5) -> Analysis:
    return Analysis(
        status=Status.FINDINGS,
        algorithm=Algorithm("a", "1", "Physics", Basis.LEARNED),
        template="t",
        source_uids=("2.25.1",),
        findings=(Finding("f-1", "mass", (Measurement("volume", value, "ml"),)),),
        heat_maps=(
            HeatMap("2.25.1", np.full((2, 3), 0.5, np.float32), np.zeros((2, 3), np.float32), "score", 0.5, 0.4),
        ),
        segmentations=(Segmentation("mass", np.ones((1, 2, 3), np.bool_), np.eye(4), ("2.25.1",)),),
    )


@settings(max_examples=100, deadline=None)
@given(analysis=ANALYSES)
def test_every_analysis_comes_back_as_it_was(analysis: Analysis) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "analysis"
        sha256 = save_analysis(analysis, folder)
        assert same(load_analysis(folder), analysis)
        assert hashlib.sha256((folder / "analysis.json").read_bytes()).hexdigest() == sha256
        assert [path.name for path in Path(name).iterdir()] == ["analysis"]


def test_the_same_analysis_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = save_analysis(small(), tmp_path / "a"), save_analysis(small(), tmp_path / "b")
    assert first == second
    assert (tmp_path / "a" / "arrays.npz").read_bytes() == (tmp_path / "b" / "arrays.npz").read_bytes()


def test_saving_the_same_again_touches_nothing(tmp_path: Path) -> None:
    save_analysis(small(), tmp_path / "a")
    before = (tmp_path / "a" / "analysis.json").stat()
    save_analysis(small(), tmp_path / "a")
    assert (tmp_path / "a" / "analysis.json").stat() == before


def test_another_analysis_replaces_the_first(tmp_path: Path) -> None:
    first = save_analysis(small(1.5), tmp_path / "a")
    assert save_analysis(small(2.5), tmp_path / "a") != first
    assert load_analysis(tmp_path / "a").findings[0].measurements[0].value == 2.5
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_cut_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.x1.part", ".a.old.part", ".ab.x1.part", "a.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "analysis.json").write_text("{", encoding="utf-8")
    save_analysis(small(1.5), tmp_path / "a")
    save_analysis(small(2.5), tmp_path / "a")
    discard_partial(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ab.x1.part", "a", "a.part"]


def test_a_folder_that_is_no_analysis_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="is not an Analysis"):
        save_analysis(small(), tmp_path / "store")
    assert (tmp_path / "store" / "precious").exists()


@pytest.mark.parametrize("position", [0.02, 0.3, 0.6, 0.98])
def test_a_flipped_bit_in_the_arrays_is_refused(tmp_path: Path, position: float) -> None:
    save_analysis(small(), tmp_path / "a")
    path = tmp_path / "a" / "arrays.npz"
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="expected sha256"):
        load_analysis(tmp_path / "a")


@pytest.mark.parametrize("name", ["analysis.json", "arrays.npz"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    save_analysis(small(), tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(StoreError, match="no whole Analysis"):
        load_analysis(tmp_path / "a")


def test_a_document_from_before_a_field_was_there_still_loads(tmp_path: Path) -> None:
    save_analysis(small(), tmp_path / "a")
    path = tmp_path / "a" / "analysis.json"
    document = json.loads(path.read_text(encoding="ascii"))
    for finding in document["analysis"]["findings"]:
        del finding["qualities"]
    path.write_text(json.dumps(document), encoding="ascii")
    found = load_analysis(tmp_path / "a").findings
    assert found
    assert all(finding.qualities == () for finding in found)


@pytest.mark.parametrize("spoil", [
    lambda document: document.update(schema_version=2),
    lambda document: document.pop("analysis"),
    lambda document: document.pop("masks"),
    lambda document: document.update(masks={"segmentations.0.mask": [9, 9, 9]}),
    lambda document: document.update(masks={"absent": [1]}),
    lambda document: document["analysis"].update(status="fine"),
    lambda document: document["analysis"].update(more=1),
    lambda document: document["analysis"].pop("template"),
    lambda document: document["analysis"]["findings"][0].update(is_abnormal=1),
    lambda document: document["analysis"]["heat_maps"][0].update(heat="absent"),
    lambda document: document["analysis"]["heat_maps"][0].update(spacing_mm=[1.0]),
])  # fmt: skip
def test_a_document_of_another_shape_is_refused(tmp_path: Path, spoil: object) -> None:
    save_analysis(small(), tmp_path / "a")
    path = tmp_path / "a" / "analysis.json"
    document = json.loads(path.read_text(encoding="ascii"))
    spoil(document)  # type: ignore[operator]
    path.write_text(json.dumps(document), encoding="ascii")
    with pytest.raises(StoreError):
        load_analysis(tmp_path / "a")


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60) | st.just(b"[" * 100_000))
def test_any_bytes_for_a_document_are_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        save_analysis(small(), Path(name) / "a")
        (Path(name) / "a" / "analysis.json").write_bytes(content)
        with pytest.raises(StoreError):
            load_analysis(Path(name) / "a")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(1.0), object(), 1j])
def test_a_value_that_json_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(StoreError):
        save_analysis(small(value), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_python_objects_are_never_written(tmp_path: Path) -> None:
    objects = Segmentation("mass", np.array([[[None]]]), np.eye(4), ("2.25.1",))
    with pytest.raises(StoreError, match="expected numbers, found dtype object"):
        save_analysis(dataclasses.replace(small(), segmentations=(objects,)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
