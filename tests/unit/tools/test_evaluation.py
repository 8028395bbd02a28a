"""Data sets for the evaluation: labels that load, fit their images, and hold what was drawn."""

from pathlib import Path

import numpy as np
import pytest

from node.evaluate.cases import studies_in
from node.evaluate.geometry import planes_of
from node.evaluate.labels import Label, Labels, SpaceBox, load_labels
from node.evaluate.masks import read_mask
from tools.evaluation import chest_ct, head_ct
from tools.evaluation.__main__ import make_dataset


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head_ct, "SHIFTS_MM", (0.0, -6.0))
        patch.setattr(head_ct, "COLLECTIONS", head_ct.COLLECTIONS[:1])
        make_dataset("head_ct", folder)
    return folder


def test_every_study_that_is_drawn_is_labelled_and_no_other(heads: Path) -> None:
    labels, found = load_labels(heads / "labels.csv"), studies_in(heads / "studies")
    assert {study.study_instance_uid for study in found.studies} == set(labels.by_study)
    assert len(set(found.patients.values())) == 2
    others = {study.study_instance_uid for study in studies_in(heads / "others").studies}
    assert others
    assert not others & set(labels.by_study)


def test_the_mask_of_a_collection_lies_on_its_images_and_holds_its_volume(heads: Path) -> None:
    labels, found = load_labels(heads / "labels.csv"), studies_in(heads / "studies")
    studies = {study.study_instance_uid: study for study in found.studies}
    (label,) = [one for one in _all(labels) if one.kind == head_ct.KIND and one.is_positive]
    (volume,) = [value.value for value in label.values if value.quantity == "volume"]
    mask = read_mask(label.masks[0], planes_of(studies[label.study_uid]))
    assert mask.affine is not None
    mask_ml = float(mask.mask.sum()) * abs(float(np.linalg.det(mask.affine[:3, :3]))) / 1000.0
    assert mask_ml == pytest.approx(volume, rel=0.08)


def test_a_head_without_a_collection_keeps_its_shift(heads: Path) -> None:
    labels = load_labels(heads / "labels.csv")
    shifts = {value.value for label in _all(labels) for value in label.values if value.quantity == "shift"}
    assert shifts == {0.0, 6.0}
    assert {label.is_positive for label in _all(labels) if label.kind == head_ct.SHIFTED} == {True, False}


def test_each_nodule_of_a_thorax_has_a_box_of_its_diameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chest_ct, "SPACING_MM", (4.0, 3.0, 3.0))
    monkeypatch.setattr(chest_ct, "WITH_NODULES", 1)
    monkeypatch.setattr(chest_ct, "WITHOUT", 1)
    monkeypatch.setattr(chest_ct, "_write_others", lambda folder: None)
    make_dataset("chest_ct", tmp_path)
    labels = load_labels(tmp_path / "labels.csv")
    for label in _all(labels):
        if label.kind and label.is_positive:
            (box,) = label.lesions
            (axis,) = [value.value for value in label.values if value.quantity == "long_axis"]
            assert isinstance(box, SpaceBox)
            assert np.subtract(box.high, box.low) == pytest.approx([axis] * 3, abs=0.02)
    assert sorted(len(label.lesions) for label in _all(labels) if not label.kind) == [0, 3]


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(SystemExit):
        make_dataset("head_ct", tmp_path)
    assert (tmp_path / "letters.txt").is_file()


def _all(labels: Labels) -> list[Label]:
    return [label for some in labels.by_study.values() for label in some]
