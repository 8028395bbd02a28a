"""Objects that a number makes again: a soak test remembers what it sent by seed and number alone."""

import hashlib
import random
import struct
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.dicom.part10 import file_header

__all__ = ["NAME_CANARY", "PATIENT_CANARY", "SentObject", "chance_of", "make_object", "write_part10"]

NAME_CANARY = "KANARIENVOGEL"  # planted in every Patient's Name
PATIENT_CANARY = "KANARIE"  # and in every Patient ID
LONG_VRS = ("OB", "OW", "UN")  # PS3.5 7.1.2
ROWS_OF = (16, 64, 64, 64, 128, 128, 512)  # most objects are small, some are slices of a CT

_ROOT = 0x57455452454144 << 64  # UIDs of ours below 2.25 that no sender of the tests uses


@dataclass(frozen=True, slots=True)
class SentObject:
    """A CT image as it goes over the wire, in Explicit VR Little Endian."""

    sop_instance_uid: str
    study_instance_uid: str
    dataset: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.dataset).hexdigest()


def chance_of(*parts: str | int) -> random.Random:
    """Chance that is the same on every run with the same parts."""
    return random.Random("/".join(map(str, parts)))  # noqa: S311  which fault comes when, not a secret


def make_object(
    seed: str, number: int, *, per_study: int = 20, rows: int | None = None, dataset_uid: str | None = None
) -> SentObject:
    """Object `number` of a run.

    Parameters
    ----------
    per_study
        Objects that follow one another and make a study of one patient.
    rows
        Size of the square image; by chance when None.
    dataset_uid
        What the dataset says its SOP Instance UID is, to disagree with the command set.
    """
    chance = chance_of(seed, number)
    study_number = number // per_study
    study = _uid(seed, "study", study_number)
    uid = _uid(seed, "object", number)
    rows = chance.choice(ROWS_OF) if rows is None else rows
    elements = [
        _element(0x0008, 0x0005, "CS", b"ISO_IR 100"),
        _element(0x0008, 0x0008, "CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        _element(0x0008, 0x0016, "UI", str(CTImageStorage).encode()),
        _element(0x0008, 0x0018, "UI", (dataset_uid or uid).encode()),
        _element(0x0008, 0x0020, "DA", b"20261122"),
        _element(0x0008, 0x0030, "TM", b"101500"),
        _element(0x0008, 0x0050, "SH", f"ACC{study_number}".encode()),
        _element(0x0008, 0x0060, "CS", b"CT"),
        _element(0x0008, 0x0090, "PN", b""),
        _element(0x0010, 0x0010, "PN", f"{NAME_CANARY}^{study_number}".encode()),
        _element(0x0010, 0x0020, "LO", f"{PATIENT_CANARY}{study_number}".encode()),
        _element(0x0010, 0x0030, "DA", b"19560401"),
        _element(0x0010, 0x0040, "CS", b"O"),
        _element(0x0018, 0x0050, "DS", b"5"),
        _element(0x0020, 0x000D, "UI", study.encode()),
        _element(0x0020, 0x000E, "UI", _uid(seed, "series", study_number).encode()),
        _element(0x0020, 0x0010, "SH", str(study_number).encode()),
        _element(0x0020, 0x0011, "IS", b"1"),
        _element(0x0020, 0x0013, "IS", str(number % per_study + 1).encode()),
        _element(0x0020, 0x0032, "DS", f"0\\0\\{5 * (number % per_study)}".encode()),
        _element(0x0020, 0x0037, "DS", b"1\\0\\0\\0\\1\\0"),
        _element(0x0020, 0x0052, "UI", _uid(seed, "frame", study_number).encode()),
        _element(0x0028, 0x0002, "US", struct.pack("<H", 1)),
        _element(0x0028, 0x0004, "CS", b"MONOCHROME2"),
        _element(0x0028, 0x0010, "US", struct.pack("<H", rows)),
        _element(0x0028, 0x0011, "US", struct.pack("<H", rows)),
        _element(0x0028, 0x0030, "DS", b"0.7\\0.7"),
        _element(0x0028, 0x0100, "US", struct.pack("<H", 16)),
        _element(0x0028, 0x0101, "US", struct.pack("<H", 12)),
        _element(0x0028, 0x0102, "US", struct.pack("<H", 11)),
        _element(0x0028, 0x0103, "US", struct.pack("<H", 0)),
        _element(0x0028, 0x1052, "DS", b"-1024"),
        _element(0x0028, 0x1053, "DS", b"1"),
        _element(0x7FE0, 0x0010, "OW", bytes(chance.randbytes(rows * rows * 2))),
    ]
    return SentObject(uid, study, b"".join(elements))


def write_part10(path: Path, sent: SentObject) -> Path:
    """The object as a file that any sender can send."""
    header = file_header(str(CTImageStorage), sent.sop_instance_uid, str(ExplicitVRLittleEndian))
    path.write_bytes(header + sent.dataset)
    return path


def _uid(seed: str, kind: str, number: int) -> str:
    digest = hashlib.sha256(f"{seed}/{kind}/{number}".encode()).digest()
    return f"2.25.{_ROOT | int.from_bytes(digest[:8], 'big')}"


def _element(group: int, element: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in ("UI", "OB") else b" "
    head = struct.pack("<HH2s", group, element, vr.encode())
    return head + struct.pack("<xxI" if vr in LONG_VRS else "<H", len(value)) + value
