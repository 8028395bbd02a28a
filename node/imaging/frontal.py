"""What the header of a radiograph says of its body part, its view and its sides."""

from node.domain.study import Series
from node.errors import NotEvaluableError

__all__ = ["frontal_chest_sides"]

CHEST = {"", "CHEST", "THORAX", "LUNG"}  # PS3.16 Annex L, Body Part Examined; "" where the header is silent
FRONTAL = {"", "PA", "AP"}  # PS3.3 C.8.1.1.1 View Position


def frontal_chest_sides(series: Series) -> tuple[str, str]:
    """Give the patient's side at the image's left and right, ``R`` or ``L``, "" where the header does not say.

    Raises
    ------
    NotEvaluableError
        If the header says that it is another part of the body (key ``not_chest_xray``), or no upright frontal view
        (key ``not_frontal``). A silent header is not refused: the picture has to show what it is.
    """
    if str(series.header.get("BodyPartExamined") or "").strip().upper() not in CHEST:
        raise NotEvaluableError("this is not a chest radiograph", key="not_chest_xray")
    stated = series.header.get("PatientOrientation")  # PS3.3 C.7.6.1.1.1: where rows and where columns run to
    directions = [str(part).strip().upper() for part in stated] if isinstance(stated, list) else []
    rows_to, columns_to = (*directions, "", "")[:2]
    view = str(series.header.get("ViewPosition") or "").strip().upper()
    if view not in FRONTAL or rows_to.startswith(("A", "P")) or columns_to.startswith("H"):
        raise NotEvaluableError("this is not an upright frontal view", key="not_frontal")
    return {"L": ("R", "L"), "R": ("L", "R")}.get(rows_to[:1], ("", ""))
