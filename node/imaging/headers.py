"""What the header of a Series says, in the forms in which gates ask: words, texts, numbers, and which Series passes."""

import re
from collections.abc import Callable, Sequence

from node.domain.study import Series
from node.domain.volume import Volume
from node.errors import NotEvaluableError

__all__ = ["header_number", "header_texts", "header_words", "is_axial", "passing_series"]

MIN_AXIAL_COSINE = 0.94  # 20 degrees


def header_texts(series: Series, keyword: str) -> list[str]:
    """Every value of an attribute as text; none where the header is silent."""
    value = series.header.get(keyword)
    return [str(item) for item in value] if isinstance(value, list) else [str(value)] if value else []


def header_words(series: Series, *keywords: str) -> str:
    """Text of attributes in lower case, everything but letters and digits as one space."""
    said = " ".join(text for keyword in keywords for text in header_texts(series, keyword))
    return re.sub(r"[\W_]+", " ", said.lower()).strip()


def header_number(series: Series, keyword: str) -> float:
    """A number of the header, 0 where it is silent."""
    value = series.header.get(keyword)
    return float(value) if isinstance(value, int | float) else 0.0


def passing_series(candidates: Sequence[Series], check: Callable[[Series], None]) -> tuple[Series, ...]:
    """The Series that a gate lets pass.

    Raises
    ------
    NotEvaluableError
        If it lets none pass: the first refusal.
    """
    refusals: list[NotEvaluableError] = []
    accepted: list[Series] = []
    for series in candidates:
        try:
            check(series)
            accepted.append(series)
        except NotEvaluableError as refusal:
            refusals.append(refusal)
    if not accepted:
        raise refusals[0] if refusals else NotEvaluableError("there are no images", key="too_few_slices")
    return tuple(accepted)


def is_axial(volume: Volume) -> bool:
    """True if slices are stacked along the body and rows run across it, within 20 degrees; either way round."""
    along, across = abs(volume.affine[2, 0]), abs(volume.affine[0, 2])
    return bool(along >= MIN_AXIAL_COSINE * volume.spacing_mm[0] and across >= MIN_AXIAL_COSINE * volume.spacing_mm[2])
