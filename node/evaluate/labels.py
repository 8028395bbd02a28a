"""What is true of each study, from a CSV or JSON file that the physicist keeps; its columns: docs/evaluation.md."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from node.dicom.uid import is_valid_uid
from node.errors import EvaluationError

__all__ = ["ImageBox", "Label", "Labels", "Lesion", "ReferenceMask", "ReferenceValue", "SpaceBox", "load_labels"]

COLUMNS = (
    "study_uid", "kind", "label", "patient", "sop_instance_uid", "frame", "box", "box_unit", "mask", "mask_value",
    "segment", "quantity", "value", "value_unit",
)  # fmt: skip
TRUTHS = {"1": True, "positive": True, "yes": True, "true": True, "0": False, "negative": False, "no": False,
          "false": False, "": None}  # fmt: skip
PIXELS, MILLIMETRES = "px", "mm"


@dataclass(frozen=True, slots=True)
class ImageBox:
    """A labelled lesion on one image: left, top, right, bottom, in pixels from the image's top left corner or in mm.

    `sop_instance_uid` is "" where the study has one image.
    """

    box: tuple[float, float, float, float]
    unit: str = PIXELS
    sop_instance_uid: str = ""
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class SpaceBox:
    """A labelled lesion in the patient: two opposite corners in LPS mm."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]


Lesion = ImageBox | SpaceBox


@dataclass(frozen=True, slots=True)
class ReferenceMask:
    """A mask file: NIfTI, NPZ or DICOM SEG.

    With a `segment` it is compared with the application's mask of that kind; without one its connected parts are
    lesions. `value` picks one label, or one segment number of a SEG; None takes all that is not 0.
    """

    path: Path
    value: int | None = None
    segment: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """A true number, such as a volume of 12 ml; `quantity` as in the report template's ``[measurements]``."""

    quantity: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Label:
    """What is true of one study and one kind of finding ("" for any abnormal one)."""

    study_uid: str
    kind: str = ""
    is_positive: bool | None = None
    patient: str = ""
    lesions: tuple[Lesion, ...] = ()
    masks: tuple[ReferenceMask, ...] = ()
    values: tuple[ReferenceValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Labels:
    """All labels of a file, one for each study and kind, and the file's digest so that a report can name it."""

    by_study: Mapping[str, tuple[Label, ...]]
    sha256: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind that something is labelled for."""
        return tuple(sorted({label.kind for labels in self.by_study.values() for label in labels}))


def load_labels(path: Path) -> Labels:
    """Read a labels file, CSV or JSON by its ending; mask files are found beside it.

    A study may have several rows: one for each lesion, mask or number. They must agree on label and patient.

    Raises
    ------
    EvaluationError
        If a column is unknown, or a row says what cannot be; the message names file and row.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: must be UTF-8") from error
    rows = _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    found: dict[tuple[str, str], Label] = {}
    for where, row in rows:
        label = _label(where, row, path.parent)
        key = label.study_uid, label.kind
        found[key] = _joined(where, found[key], label) if key in found else label
    if not found:
        raise EvaluationError(f"{path}: holds no label")
    by_study: dict[str, tuple[Label, ...]] = {}
    for label in found.values():
        if label.lesions and label.is_positive is False:
            raise EvaluationError(f"{path}: study {label.study_uid} is labelled negative and has a lesion")
        by_study[label.study_uid] = (*by_study.get(label.study_uid, ()), label)
    return Labels(by_study, hashlib.sha256(content).hexdigest())


def _csv_rows(path: Path, text: str) -> Iterable[tuple[str, Mapping[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        _check_columns(str(path), reader.fieldnames or ())
        rows = list(reader)
    except csv.Error as error:
        raise EvaluationError(f"{path}, near row {reader.line_num + 1}: is not CSV: {error}") from error
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise EvaluationError(f"{path}, row {number}: has more cells than there are columns")
        yield f"{path}, row {number}", {key: (value or "").strip() for key, value in row.items()}


def _json_rows(path: Path, text: str) -> Iterable[tuple[str, Mapping[str, str]]]:
    """The same columns as keys, a list of such records; a box may be a list of numbers."""
    try:
        records = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: is not JSON") from error
    if not isinstance(records, list):
        raise EvaluationError(f"{path}: must be a list of records")
    for number, record in enumerate(records, start=1):
        where = f"{path}, record {number}"
        if not isinstance(record, dict):
            raise EvaluationError(f"{where}: must be a record")
        _check_columns(where, record)
        yield where, {key: _as_cell(where, key, value) for key, value in record.items()}


def _as_cell(where: str, key: str, value: object) -> str:
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    if isinstance(value, dict):
        raise EvaluationError(f"{where}: {key} must be a text, a number or a list")
    return "" if value is None else str(value).strip()


def _check_columns(where: str, columns: Iterable[str]) -> None:
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown or "study_uid" not in columns:
        what = f"has no column {unknown[0]!r}" if unknown else "lacks the column 'study_uid'"
        raise EvaluationError(f"{where}: {what}; known are {', '.join(COLUMNS)}")


def _label(where: str, row: Mapping[str, str], folder: Path) -> Label:
    uid, said = row["study_uid"], row.get("label", "").lower()
    if not is_valid_uid(uid):
        raise EvaluationError(f"{where}: study_uid is no UID")
    if said not in TRUTHS:
        raise EvaluationError(f"{where}: label must be 1 or 0, found {said!r}")
    lesion, mask, value = _lesion(where, row), _mask(where, row, folder), _value(where, row)
    has_lesion = lesion is not None or (mask is not None and not mask.segment)
    return Label(
        study_uid=uid,
        kind=row.get("kind", ""),
        is_positive=True if TRUTHS[said] is None and has_lesion else TRUTHS[said],
        patient=row.get("patient", ""),
        lesions=() if lesion is None else (lesion,),
        masks=() if mask is None else (mask,),
        values=() if value is None else (value,),
    )


def _joined(where: str, one: Label, other: Label) -> Label:
    truths = {label.is_positive for label in (one, other)} - {None}
    patients = {label.patient for label in (one, other)} - {""}
    if len(truths) > 1 or len(patients) > 1:
        raise EvaluationError(f"{where}: another row of the study says another label or patient")
    return Label(
        study_uid=one.study_uid,
        kind=one.kind,
        is_positive=next(iter(truths), None),
        patient=next(iter(patients), ""),
        lesions=one.lesions + other.lesions,
        masks=one.masks + other.masks,
        values=one.values + other.values,
    )


def _lesion(where: str, row: Mapping[str, str]) -> Lesion | None:
    cells = row.get("box", "").replace(";", " ").replace(",", " ").split()
    if not cells:
        return None
    try:
        box = [float(cell) for cell in cells]
    except ValueError:
        box = []
    unit, uid, frame = row.get("box_unit") or PIXELS, row.get("sop_instance_uid", ""), row.get("frame", "")
    half = len(box) // 2
    is_ordered = all(math.isfinite(value) for value in box) and all(
        low < high for low, high in zip(box[:half], box[half:], strict=True)
    )
    if len(box) == 6 and is_ordered and unit == MILLIMETRES and not uid:
        return SpaceBox((box[0], box[1], box[2]), (box[3], box[4], box[5]))
    if len(box) == 4 and is_ordered and unit in (PIXELS, MILLIMETRES) and (not frame or frame.isdecimal()):
        return ImageBox((box[0], box[1], box[2], box[3]), unit, uid, int(frame) if frame else None)
    raise EvaluationError(
        f"{where}: box must be left top right bottom (box_unit px or mm, on sop_instance_uid), "
        "or two corners x y z x y z in LPS mm (box_unit mm)"
    )


def _mask(where: str, row: Mapping[str, str], folder: Path) -> ReferenceMask | None:
    name, value = row.get("mask", ""), row.get("mask_value", "")
    if not name:
        return None
    if value and not value.isdecimal():
        raise EvaluationError(f"{where}: mask_value must be a whole number")
    return ReferenceMask(folder / name, int(value) if value else None, row.get("segment", ""))


def _value(where: str, row: Mapping[str, str]) -> ReferenceValue | None:
    quantity, cell, unit = row.get("quantity", ""), row.get("value", ""), row.get("value_unit", "")
    if not quantity and not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not quantity or not unit or not math.isfinite(value):
        raise EvaluationError(f"{where}: quantity, value and value_unit (UCUM) belong together")
    return ReferenceValue(quantity, value, unit)
