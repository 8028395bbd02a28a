"""A structured report as a document of a smaller SOP class, for an archive that does not take its own.

The classes of structured reports differ in what a content tree may hold. A tree that keeps to the rules of a smaller
class is a valid document of it, word for word.

References
----------
PS3.3 A.35.1 (Basic Text SR), A.35.2 (Enhanced SR), A.35.3 (Comprehensive SR), A.35.13 (Comprehensive 3D SR).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from node.dicom.elements import items, text
from node.dicom.native import Copy, read_encoded
from node.dicom.part10 import FileMeta
from node.dicom.read import read_dataset
from node.dicom.recode import recode
from node.dicom.uid import derive_uid
from node.errors import UnreadableInstanceError

__all__ = ["as_smaller_class", "hindrance", "smaller_class_uid", "smaller_classes"]

LARGEST_FIRST = tuple(
    str(uid) for uid in (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage)
)
SOP_CLASS_UID, SOP_INSTANCE_UID = 0x00080016, 0x00080018
DEEPEST = 64

Rules = Mapping[str, tuple[frozenset[str], frozenset[str]]]
"""For each relationship: the value types it may start from (none for any), and those it may lead to."""


def _rules(*, measured: str, spatial: str, nested: str, observed: str) -> Rules:
    """Tables A.35.1-2, A.35.2-2 and A.35.3-2, which are one with more or fewer words."""
    plain = _words("TEXT CODE DATETIME DATE TIME UIDREF PNAME") | _words(measured)
    evidence = plain | _words("COMPOSITE IMAGE WAVEFORM") | _words(spatial)
    stated = _words("TEXT") if not measured else _words("TEXT CODE NUM")
    container = _words("CONTAINER")
    return {
        "CONTAINS": (container, evidence | container),
        "HAS OBS CONTEXT": (container | _words(observed), plain | _words("COMPOSITE")),
        "HAS ACQ CONTEXT": (_words("CONTAINER IMAGE WAVEFORM COMPOSITE"), plain | _words(nested)),
        "HAS CONCEPT MOD": (frozenset(), _words("TEXT CODE")),
        "HAS PROPERTIES": (stated, evidence | _words(nested)),
        "INFERRED FROM": (stated, evidence | _words(nested)),
        "SELECTED FROM": (_words(spatial), _words("IMAGE WAVEFORM SCOORD") if spatial else frozenset()),
    }


def _words(text_of_words: str) -> frozenset[str]:
    return frozenset(text_of_words.split())


RULES: Mapping[str, Rules] = {
    str(ComprehensiveSRStorage): _rules(
        measured="NUM", spatial="SCOORD TCOORD", nested="CONTAINER", observed="TEXT CODE NUM"
    ),
    str(EnhancedSRStorage): _rules(measured="NUM", spatial="SCOORD TCOORD", nested="", observed=""),
    str(BasicTextSRStorage): _rules(measured="", spatial="", nested="", observed=""),
}
MAY_REFER_INSIDE = frozenset({str(ComprehensiveSRStorage)})  # relationships by reference, A.35.3.3.1.2


def smaller_classes(sop_class_uid: str) -> tuple[str, ...]:
    """The SOP classes as which a report may be sent instead, largest first; none if it is no such report."""
    if sop_class_uid not in LARGEST_FIRST:
        return ()
    return LARGEST_FIRST[LARGEST_FIRST.index(sop_class_uid) + 1 :]


def smaller_class_uid(sop_instance_uid: str, sop_class_uid: str) -> str:
    """The SOP Instance UID that a report has as a document of another class; always the same one."""
    return derive_uid("sr-fallback", sop_instance_uid, sop_class_uid)


def hindrance(path: Path, sop_class_uid: str) -> str:
    """Why a report cannot be a document of a smaller class; "" if it can.

    Raises
    ------
    UnreadableInstanceError
        If the report cannot be parsed.
    """
    ds, rules = read_dataset(path), RULES[sop_class_uid]
    if "DigitalSignaturesSequence" in ds:
        return "it is signed"
    for source, relation, item in _relations(ds, 0):
        target = text(item, "ValueType")
        if not target:
            if sop_class_uid in MAY_REFER_INSIDE:
                continue
            return "an item refers to another one"
        sources, targets = rules.get(relation, (frozenset({""}), frozenset()))
        if target not in targets or (sources and source not in sources):
            return f"{source} {relation} {target} has no place in it"
    return ""


def as_smaller_class(path: Path, meta: FileMeta, sop_class_uid: str) -> Copy:
    """The same report as a document of another class: a new SOP Instance, its content unchanged.

    Only its SOP class and SOP Instance UID differ, so the same file always gives the same document.

    Raises
    ------
    PixelError, UnreadableInstanceError
        If the report is too large or cannot be parsed.
    """
    uid = smaller_class_uid(meta.sop_instance_uid, sop_class_uid)
    is_implicit = meta.transfer_syntax_uid == ImplicitVRLittleEndian
    encoded = recode(
        memoryview(read_encoded(path, meta)),
        from_implicit=is_implicit,
        to_implicit=is_implicit,
        changes={SOP_CLASS_UID: (b"UI", sop_class_uid.encode()), SOP_INSTANCE_UID: (b"UI", uid.encode())},
    )
    return Copy(sop_class_uid, uid, str(ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian), encoded)


def _relations(item: Dataset, depth: int) -> Iterator[tuple[str, str, Dataset]]:
    """Every content item below one, with the value type above it and its relationship to that."""
    if depth > DEEPEST:
        raise UnreadableInstanceError(f"content items are nested deeper than {DEEPEST}")
    for below in items(item, "ContentSequence"):
        yield text(item, "ValueType"), text(below, "RelationshipType"), below
        yield from _relations(below, depth + 1)
