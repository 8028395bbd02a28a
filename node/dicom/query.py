"""A C-FIND for one object, and whether a match is that object (PS3.4 C.4.1, C.6.2)."""

from pydicom.dataset import Dataset

from node.dicom.elements import text
from node.dicom.encoded import decode_dataset, encode_dataset

__all__ = ["STUDY_ROOT_FIND", "is_match", "write_query"]

# PS3.6 Table A-1: Study Root Query/Retrieve Information Model - FIND; pydicom's name is made at run time
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def write_query(
    study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
) -> bytes:
    """The identifier that asks for one object; an archive may demand the keys of the levels above as well."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "IMAGE"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study_instance_uid, series_instance_uid
    ds.SOPInstanceUID = sop_instance_uid
    return encode_dataset(ds, transfer_syntax_uid)


def is_match(data: bytes, transfer_syntax_uid: str, sop_instance_uid: str) -> bool:
    """True if a match is the object; an archive that passes over the key gives others.

    Raises
    ------
    UnreadableInstanceError
        If it cannot be parsed.
    """
    return text(decode_dataset(data, transfer_syntax_uid), "SOPInstanceUID") == sop_instance_uid
