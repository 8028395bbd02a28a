"""Coded concepts of report templates, checked against the code dictionaries that pydicom holds."""

import functools
import re
from collections.abc import Mapping
from typing import cast

from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DictionaryCode

from node.domain.codes import Code
from node.domain.findings import Status
from node.errors import ReportError

__all__ = ["LATERALITY", "SUMMARY", "Concept", "code_item", "known_meanings", "modality_code", "of_dictionary"]

Concept = Code | DictionaryCode
"""Our own record, or an entry of pydicom's dictionaries for the fixed names of the standard's templates."""

# pydicom leaves the type of its tables open: scheme -> name -> code value -> (meaning, context groups)
DICTIONARY = cast(Mapping[str, Mapping[str, Mapping[str, tuple[str, list[int]]]]], concepts)

LONGEST_MEANING = 64  # PS3.5 6.2, VR LO
LONGEST_VALUE = 16  # PS3.5 6.2, VR SH


def of_dictionary(entry: DictionaryCode, meaning: str = "") -> Code:
    """A concept of pydicom's dictionaries as our own record, with another meaning if one is given."""
    return Code(entry.value, entry.scheme_designator, meaning or entry.meaning)


SUMMARY = {
    Status.FINDINGS: of_dictionary(codes.DCM.AllAlgorithmsSucceededWithFindings),
    Status.NO_FINDINGS: of_dictionary(codes.DCM.AllAlgorithmsSucceededWithoutFindings),
    Status.FAILED: of_dictionary(codes.DCM.NoAlgorithmsSucceededWithoutFindings),
    Status.NOT_EVALUABLE: of_dictionary(codes.SCT.NotEvaluated),
}
"""The answers to CAD Processing and Findings Summary (111017,DCM): PS3.16 CID 6047, and "not evaluated"."""

LATERALITY = {
    "R": of_dictionary(codes.SCT.Right),
    "L": of_dictionary(codes.SCT.Left),
    "B": of_dictionary(codes.SCT.RightAndLeft, "Right and left"),
}
"""PS3.16 CID 244."""


@functools.cache
def known_meanings(value: str, scheme: str) -> frozenset[str]:
    """The meanings pydicom's dictionaries hold for a code, lower case; empty if they do not hold it."""
    names = DICTIONARY.get(scheme, {})
    found = {by_value[value][0] for by_value in names.values() if value in by_value}
    plain = {re.sub(r" \([^()]*\)$", "", meaning) for meaning in found}  # SNOMED semantic tag
    return frozenset(meaning.lower() for meaning in found | plain)


def modality_code(modality: str) -> Code | None:
    """The concept of a value of Modality (PS3.16 CID 29), None if there is none."""
    names = DICTIONARY["DCM"].values()
    found = next((by_value[modality][0] for by_value in names if modality in by_value), None)
    return Code(modality, "DCM", found) if found else None


def code_item(concept: Concept, meaning: str = "") -> Dataset:
    """A concept as an item of a code sequence (PS3.3 8.8), with another meaning if one is given.

    Raises
    ------
    ReportError
        If its scheme or meaning is empty or too long.
    """
    code = concept if isinstance(concept, Code) else of_dictionary(concept)
    meaning = meaning or code.meaning
    if not code.value or not 0 < len(meaning) <= LONGEST_MEANING or not 0 < len(code.scheme) <= LONGEST_VALUE:
        raise ReportError(
            f"code ({code.value},{code.scheme}) needs a value, a scheme of at most {LONGEST_VALUE} characters and "
            f"a meaning of at most {LONGEST_MEANING}, found one of {len(meaning)}"
        )
    item = Dataset()
    if len(code.value) <= LONGEST_VALUE:
        item.CodeValue = code.value
    else:
        item.LongCodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = meaning
    return item
