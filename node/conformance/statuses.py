"""Every A-ASSOCIATE-RJ and every DIMSE status this node gives, when, and what it makes of those it gets.

References
----------
PS3.8 Table 9-21, PS3.7 Annex C, PS3.4 Table B.2-1.
"""

from node.conformance.records import Judgement, Rejection, Status
from node.network.negotiation import CALLING_AE_NOT_RECOGNISED, LIMIT_EXCEEDED
from node.network.pdu import AssociateReject
from node.receive.spool import ALREADY_STORED, CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES, SUCCESS

__all__ = ["JUDGEMENTS", "REJECTIONS", "STATUSES", "WITHOUT_SYNC"]


def _rejection(reject: AssociateReject, meaning: str, when: str) -> Rejection:
    return Rejection(reject.result, reject.source, reject.reason, meaning, when)


REJECTIONS = (
    _rejection(
        CALLING_AE_NOT_RECOGNISED,
        "rejected permanent, calling AE title not recognized",
        "the address, the AE title or the certificate of the caller is not among those allowed",
    ),
    _rejection(
        LIMIT_EXCEEDED,
        "rejected transient, local limit exceeded",
        "as many Associations are open as may be, the disk is nearly full or has failed, or the node is being stopped",
    ),
    Rejection(1, 1, 2, "rejected permanent, application context name not supported", "it is not the one of DICOM"),
    Rejection(1, 2, 2, "rejected permanent, protocol version not supported", "bit 0 of the version is not set"),
)

SAME_AGAIN = "the same object, byte for byte, was stored before; nothing is changed"
STATUSES = (
    Status(
        SUCCESS,
        "Success",
        ("the object is durable on disk, file and index; its dataset is byte for byte what was sent", SAME_AGAIN),
        is_kept=True,
    ),
    Status(
        OUT_OF_RESOURCES,
        "Refused: out of resources",
        ("the disk is nearly full, or has failed", "the object could not be written or entered in the index"),
        may_succeed_later=True,
    ),
    Status(
        MISMATCH,
        "Error: data set does not match SOP class",
        ("command set and dataset name different SOP Class or SOP Instance UIDs",),
        is_put_aside=True,
    ),
    Status(
        CANNOT_UNDERSTAND,
        "Error: cannot understand",
        (
            "the SOP Class or SOP Instance UID of the command set is no valid UID",
            "the dataset lacks a valid Study or Series Instance UID",
            "the dataset is cut short",
            "an element of the dataset has no VR, is out of order, or is where an item must be",
            "sequences are nested more than 64 deep",
            "an identifier is longer than 1024 bytes",
            "the request says that it has no dataset (then there is nothing to put aside)",
        ),
        is_put_aside=True,
    ),
    Status(
        ALREADY_STORED,
        "Error: cannot understand",
        ("the SOP Instance UID is stored already with other content; the first object stays",),
        is_put_aside=True,
    ),
    Status(0x0122, "Refused: SOP class not supported", ("a C-STORE came on the context of Verification",)),
    Status(0x0211, "Refused: unrecognized operation", ("the request is neither C-ECHO nor C-STORE",)),
)

WITHOUT_SYNC = Status(
    SUCCESS,
    "Success",
    ("the object is written, file and index, but nobody waited for the disk: [store] sync is false", SAME_AGAIN),
    is_kept=True,
)

JUDGEMENTS = (
    Judgement(0x0000, 0x0000, "Success", is_taken=True, is_final=True),
    Judgement(0x0001, 0x0001, "Warning", is_taken=True, is_final=True),
    Judgement(0x0105, 0x0106, "Error in an attribute", is_taken=False, is_final=True),
    Judgement(0x0107, 0x0107, "Warning: attribute list", is_taken=True, is_final=True),
    Judgement(0x0111, 0x0111, "Duplicate SOP Instance, so ours", is_taken=True, is_final=True),
    Judgement(0x0115, 0x0115, "Error: invalid argument value", is_taken=False, is_final=True),
    Judgement(0x0116, 0x0116, "Warning: attribute value out of range", is_taken=True, is_final=True),
    Judgement(0x0117, 0x0118, "Error: invalid object instance, no such SOP class", is_taken=False, is_final=True),
    Judgement(0x0120, 0x0122, "Error: attribute missing, SOP class not supported", is_taken=False, is_final=True),
    Judgement(0x0211, 0x0212, "Refused: unrecognized operation, mistyped argument", is_taken=False, is_final=True),
    Judgement(0xA700, 0xA7FF, "Refused: out of resources", is_taken=False, is_final=False),
    Judgement(0xA800, 0xA9FF, "Error: data set does not match SOP class", is_taken=False, is_final=True),
    Judgement(0xB000, 0xBFFF, "Warning: coercion, elements discarded and the like", is_taken=True, is_final=True),
    Judgement(0xC000, 0xCFFF, "Error: cannot understand", is_taken=False, is_final=True),
)
