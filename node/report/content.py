"""Content items of structured reports (PS3.3 C.17.3), as small functions."""

import math
from collections.abc import Iterable
from enum import StrEnum

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from node.domain.codes import Code
from node.domain.study import Instance
from node.errors import ReportError
from node.report.concepts import Concept, code_item

__all__ = ["Relation", "code", "container", "image", "number", "outline", "text", "uid_reference"]


class Relation(StrEnum):
    """How an item belongs to the one above it (PS3.3 C.17.3.2.4)."""

    CONTAINS = "CONTAINS"
    HAS_ACQ_CONTEXT = "HAS ACQ CONTEXT"
    HAS_CONCEPT_MOD = "HAS CONCEPT MOD"
    HAS_OBS_CONTEXT = "HAS OBS CONTEXT"
    INFERRED_FROM = "INFERRED FROM"
    SELECTED_FROM = "SELECTED FROM"


def container(
    name: Concept, items: Iterable[Dataset], *, relation: Relation | None = Relation.CONTAINS, template: str = ""
) -> Dataset:
    """A heading with items under it; the root of a document has no relation. `template` is a TID of PS3.16."""
    item = _item("CONTAINER", name, relation)
    item.ContinuityOfContent = "SEPARATE"
    if template:
        identification = Dataset()
        identification.MappingResource = "DCMR"
        identification.TemplateIdentifier = template
        item.ContentTemplateSequence = [identification]
    return _with(item, items)


def text(name: Concept, value: str, relation: Relation = Relation.CONTAINS, items: Iterable[Dataset] = ()) -> Dataset:
    """Words."""
    item = _item("TEXT", name, relation)
    item.TextValue = value
    return _with(item, items)


def code(name: Concept, value: Concept, relation: Relation, items: Iterable[Dataset] = ()) -> Dataset:
    """A concept as the answer to another."""
    item = _item("CODE", name, relation)
    item.ConceptCodeSequence = [code_item(value)]
    return _with(item, items)


def number(name: Concept, value: float, unit: Code, relation: Relation = Relation.CONTAINS) -> Dataset:
    """A measured value with its unit.

    Raises
    ------
    ReportError
        If the value is not a finite number.
    """
    if not math.isfinite(value):
        raise ReportError(f"measurement {name.meaning!r} must be a finite number, found {value}")
    measured = Dataset()
    is_whole = float(value).is_integer() and abs(value) < 1e15
    measured.NumericValue = str(int(value)) if is_whole else format_number_as_ds(float(value))
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    item = _item("NUM", name, relation)
    item.MeasuredValueSequence = [measured]
    return item


def uid_reference(name: Concept, uid: str, relation: Relation) -> Dataset:
    """A UID."""
    item = _item("UIDREF", name, relation)
    item.UID = uid
    return item


def image(
    name: Concept,
    instance: Instance,
    relation: Relation,
    *,
    frame_number: int | None = None,
    items: Iterable[Dataset] = (),
) -> Dataset:
    """A reference to an image, or to one frame of it, counted from 1."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = instance.sop_instance_uid
    if frame_number is not None:
        reference.ReferencedFrameNumber = frame_number
    item = _item("IMAGE", name, relation)
    item.ReferencedSOPSequence = [reference]
    return _with(item, items)


def outline(name: Concept, points: tuple[tuple[float, float], ...], of: Dataset) -> Dataset:
    """A closed outline on an image.

    Parameters
    ----------
    points
        (column, row); the top left corner of the image is (0, 0) (PS3.3 C.18.6.1.1). The first
        point is repeated here, which is what closes a POLYLINE.
    of
        The IMAGE item it is selected from.
    """
    item = _item("SCOORD", name, Relation.CONTAINS)
    item.GraphicType = "POLYLINE"
    item.GraphicData = [float(number) for point in (*points, points[0]) for number in point]
    return _with(item, [of])


def _item(value_type: str, name: Concept, relation: Relation | None) -> Dataset:
    item = Dataset()
    if relation is not None:
        item.RelationshipType = relation.value
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [code_item(name)]
    return item


def _with(item: Dataset, items: Iterable[Dataset]) -> Dataset:
    children = list(items)
    if children:
        item.ContentSequence = children
    return item
