"""The small language of rules: equality, lists, ranges, regular expressions, presence; nothing is evaluated."""

import re
from collections.abc import Mapping

from node.api import Terms
from node.domain.study import HeaderValue, Series
from node.settings import Condition

__all__ = ["expected", "why_not", "why_not_terms"]

Header = Mapping[str, HeaderValue]


def why_not(condition: Condition, header: Header) -> str:
    """Why a Series does not meet a condition, in words; "" if it does.

    A value of several parts (such as ImageType) meets a condition if any part does. Text is compared
    without regard to case or surrounding blanks. The words name the keyword and what was expected, and
    what was found only for keywords that never hold patient data.
    """
    keyword = condition.keyword
    found = header.get(keyword)
    values = found if isinstance(found, list) else [] if found in (None, "") else [found]
    if condition.is_present is not None:
        if condition.is_present == bool(values):
            return ""
        return f"{keyword} is {'missing' if condition.is_present else 'present'}"
    if not values:
        return f"{keyword} is missing"
    if any(_meets(condition, value) for value in values):
        return ""
    return f"{keyword} is not {_expected(condition)}"


def expected(condition: Condition) -> str:
    """What a condition asks for, in words."""
    if condition.is_present is not None:
        return f"{condition.keyword} is {'present' if condition.is_present else 'missing'}"
    return f"{condition.keyword} is {_expected(condition)}"


def _meets(condition: Condition, value: str | int | float) -> bool:
    if condition.any_of:
        return any(_equal(value, wanted) for wanted in condition.any_of)
    if condition.matches is not None:
        return re.search(condition.matches, str(value)) is not None
    number = _number(value)
    if number is None:
        return False
    low_enough = condition.maximum is None or number <= condition.maximum
    return low_enough and (condition.minimum is None or number >= condition.minimum)


def _equal(value: str | int | float, wanted: str | int | float) -> bool:
    if isinstance(wanted, str):
        return str(value).strip().casefold() == wanted.strip().casefold()
    return _number(value) == wanted


def _number(value: str | int | float) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _expected(condition: Condition) -> str:
    if condition.any_of:
        return " or ".join(str(value) for value in condition.any_of)
    if condition.matches is not None:
        return f"a match of {condition.matches}"
    low = "" if condition.minimum is None else f"at least {condition.minimum:g}"
    high = "" if condition.maximum is None else f"at most {condition.maximum:g}"
    return " and ".join(part for part in (low, high) if part) or "a number"


def why_not_terms(terms: Terms, series: Series) -> str:
    """Why a handler itself does not take a Series, in words; "" if it does."""
    if series.modality not in terms.modalities:
        return f"modality {series.modality or '(none)'} is not {' or '.join(terms.modalities)}"
    if series.image_count < terms.min_instances:
        return f"{series.image_count} images are fewer than {terms.min_instances}"
    classes = {instance.sop_class_uid for instance in series.instances}
    if terms.sop_class_uids and not classes & set(terms.sop_class_uids):
        return "its SOP Class is not one the handler reads"
    return ""
