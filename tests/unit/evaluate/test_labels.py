"""Labels say what is true in one way only; a row that does not is named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import EvaluationError
from node.evaluate.labels import COLUMNS, ImageBox, SpaceBox, load_labels


def _load(folder: Path, text: str, name: str = "labels.csv") -> object:
    (folder / name).write_text(text, encoding="utf-8")
    return load_labels(folder / name)


def test_rows_of_one_study_are_joined(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(
        "study_uid,label,kind,patient,box,box_unit,sop_instance_uid,mask,segment,quantity,value,value_unit\n"
        "2.25.1,1,nodule,A,1 2 3 4,,2.25.9,,,,,\n"
        "2.25.1,,nodule,,-10 0 5 10 20 30,mm,,,,,,\n"
        "2.25.1,,nodule,,,,,m.nii.gz,lung,,,\n"
        "2.25.1,,nodule,,,,,,,volume,12.5,ml\n"
        "2.25.2,0,nodule,,,,,,,,,\n",
        encoding="utf-8",
    )
    labels = load_labels(tmp_path / "l.csv")
    (one,), (other,) = labels.by_study["2.25.1"], labels.by_study["2.25.2"]
    assert (one.is_positive, one.patient, other.is_positive) == (True, "A", False)
    assert one.lesions == (ImageBox((1, 2, 3, 4), "px", "2.25.9"), SpaceBox((-10, 0, 5), (10, 20, 30)))
    assert (one.masks[0].path, one.masks[0].segment) == (tmp_path / "m.nii.gz", "lung")
    assert (one.values[0].value, one.values[0].unit) == (12.5, "ml")
    assert labels.kinds == ("nodule",)


def test_json_says_the_same_with_the_same_keys(tmp_path: Path) -> None:
    text = '[{"study_uid": "2.25.1", "label": 1, "box": [1, 2, 3, 4]}, {"study_uid": "2.25.2", "label": 0}]'
    (tmp_path / "l.json").write_text(text, encoding="utf-8")
    labels = load_labels(tmp_path / "l.json")
    assert labels.by_study["2.25.1"][0].lesions == (ImageBox((1, 2, 3, 4)),)
    assert labels.by_study["2.25.2"][0].is_positive is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study,label\n2.25.1,1\n", "no column 'study'"),
        ("label\n1\n", "lacks the column 'study_uid'"),
        ("study_uid,label\n", "holds no label"),
        ("study_uid,label\n../x,1\n", "row 2: study_uid is no UID"),
        ("study_uid,label\n2.25.1,maybe\n", "row 2: label must be 1 or 0"),
        ("study_uid,label\n2.25.1,1\n2.25.1,0\n", "row 3: another row of the study says another label"),
        ("study_uid,label,box\n2.25.1,1,3 2 1 4\n", "row 2: box must be"),
        ("study_uid,label,box\n2.25.1,1,nan 2 3 4\n", "row 2: box must be"),
        ("study_uid,label,box\n2.25.1,1,1 2 3 4 5 6\n", "row 2: box must be"),
        ("study_uid,label,box\n2.25.1,0,1 2 3 4\n", "labelled negative and has a lesion"),
        ("study_uid,quantity,value\n2.25.1,volume,3\n", "row 2: quantity, value and value_unit"),
        ("study_uid,label\n2.25.1,1,more\n", "row 2: has more cells"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        _load(tmp_path, text)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_text_is_labels_or_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("l.csv", "l.json"):
        for start in ("", ",".join(COLUMNS) + "\n2.25.1,"):
            try:
                _load(folder, start + text, name)
            except EvaluationError:
                continue
