import pytest
from pydicom.dataset import Dataset

from node.report.orientation import opposite, patient_orientation


@pytest.mark.parametrize(
    ("cosines", "sides"),
    [
        ([1, 0, 0, 0, 1, 0], ("L", "P")),  # axial, as radiologists look at it
        ([-1, 0, 0, 0, 1, 0], ("R", "P")),  # axial, mirrored
        ([0, 1, 0, 0, 0, -1], ("P", "F")),  # sagittal
        ([1, 0, 0, 0, 0, -1], ("L", "F")),  # coronal
        ([0.9, 0.436, 0, -0.436, 0.9, 0], ("L", "P")),  # oblique
    ],
)
def test_the_sides_follow_from_the_position_in_space(cosines: list[float], sides: tuple[str, str]) -> None:
    ds = Dataset()
    ds.ImageOrientationPatient = cosines
    ds.PatientOrientation = ["X", "Y"]
    assert patient_orientation(ds) == sides


def test_a_radiograph_says_its_sides_itself() -> None:
    ds = Dataset()
    ds.PatientOrientation = ["L", "FP"]
    assert patient_orientation(ds) == ("L", "FP")


@pytest.mark.parametrize("written", ["", ["L"], ["", ""], ["L", "Q"], ["LEFT", "F"]])
def test_what_is_not_known_is_not_guessed(written: str | list[str]) -> None:
    ds = Dataset()
    assert patient_orientation(ds) is None
    ds.PatientOrientation = written
    assert patient_orientation(ds) is None


def test_the_opposite_side_keeps_its_order() -> None:
    assert [opposite(side) for side in ("L", "R", "AH", "FP")] == ["R", "L", "PF", "HA"]
