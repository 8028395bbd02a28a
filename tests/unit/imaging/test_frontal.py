"""What the header of a radiograph says of view and sides."""

import pytest

from node.domain.study import HeaderValue, Series
from node.errors import NotEvaluableError
from node.imaging.frontal import frontal_chest_sides


def series(**header: HeaderValue) -> Series:
    return Series("1.2.3", "CR", (), header)


@pytest.mark.parametrize(
    ("orientation", "sides"),
    [(["L", "F"], ("R", "L")), (["R", "F"], ("L", "R")), (["l "], ("R", "L")), ([], ("", "")), (None, ("", ""))],
)
def test_the_sides_are_those_of_patient_orientation_or_unknown(
    orientation: HeaderValue, sides: tuple[str, str]
) -> None:
    assert frontal_chest_sides(series(PatientOrientation=orientation)) == sides


def test_a_silent_header_is_not_refused() -> None:
    assert frontal_chest_sides(series()) == ("", "")


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"BodyPartExamined": "KNEE"}, "not_chest_xray"),
        ({"BodyPartExamined": "CHEST", "ViewPosition": "LL"}, "not_frontal"),
        ({"PatientOrientation": ["A", "F"]}, "not_frontal"),
        ({"PatientOrientation": ["P", "F"]}, "not_frontal"),
        ({"PatientOrientation": ["L", "H"]}, "not_frontal"),
    ],
)
def test_another_part_or_view_is_refused(header: dict[str, HeaderValue], key: str) -> None:
    with pytest.raises(NotEvaluableError) as refused:
        frontal_chest_sides(series(**header))
    assert refused.value.key == key
