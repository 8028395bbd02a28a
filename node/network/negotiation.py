"""What is said yes to when a sender asks to come in.

Each proposed Presentation Context is answered in the sender's own first transfer syntax that the node keeps, so
that nothing is encoded again on the way in.

References
----------
PS3.8 9.3.3 (answers), PS3.7 D.3.3 (extended negotiation).
"""

import uuid
from collections.abc import Callable, Collection, Mapping

from pydicom import config
from pydicom.uid import UID, AllTransferSyntaxes

from node.network.items import ContextAnswer, PresentationContext, RoleSelection, UserInformation
from node.network.pdu import APPLICATION_CONTEXT, AssociateAccept, AssociateReject, AssociateRequest

__all__ = [
    "ABSTRACT_SYNTAX_NOT_SUPPORTED",
    "CALLING_AE_NOT_RECOGNISED",
    "KEPT_SYNTAXES",
    "LIMIT_EXCEEDED",
    "OWN_CLASS_UID",
    "OWN_VERSION",
    "STORAGE_SERVICE",
    "TRANSFER_SYNTAXES_NOT_SUPPORTED",
    "VERIFICATION",
    "answer_request",
    "check_request",
    "is_private_class",
    "is_storage_class",
]

# PS3.7 D.3.3.2: who we are to the peer; derived from a name (PS3.5 B.2), the same for every installation
OWN_CLASS_UID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, 'wetread upper layer').int}"
OWN_VERSION = "WETREAD"

VERIFICATION = "1.2.840.10008.1.1"  # PS3.6 Table A-1; pydicom's name for it is generated at run time
STORAGE_SERVICE = "1.2.840.10008.4.2"  # PS3.6 Table A-1, Storage Service Class; pydicom has no keyword for it
# Deflated ones can expand without bound; JPIP and SMPTE ones carry no pixels in the object. The last are JPEG XL,
# which pydicom does not know yet (PS3.6 Table A-1).
KEPT_SYNTAXES = frozenset(
    [str(uid) for uid in AllTransferSyntaxes if not any(word in uid.name for word in ("Deflate", "JPIP", "SMPTE"))]
    + [f"1.2.840.10008.1.2.4.{last}" for last in (110, 111, 112)]
)
COMPOSITE_OBJECTS = "1.2.840.10008.5.1.4.1.1."  # PS3.6 Table A-1: where all image and report storage classes are
RADIOTHERAPY_OBJECTS = "1.2.840.10008.5.1.4.34."
NOT_OF_A_PATIENT = ("Media", "Commitment", "Defined Procedure", "Protocol Approval", "Inventory", "Management")

# PS3.8 Table 9-18: why a context is refused
ABSTRACT_SYNTAX_NOT_SUPPORTED, TRANSFER_SYNTAXES_NOT_SUPPORTED = 3, 4

# PS3.8 Table 9-21
CALLING_AE_NOT_RECOGNISED = AssociateReject(1, 1, 3)
LIMIT_EXCEEDED = AssociateReject(2, 3, 2)
CONTEXT_NAME_NOT_SUPPORTED = AssociateReject(1, 1, 2)
VERSION_NOT_SUPPORTED = AssociateReject(1, 2, 2)


def check_request(request: AssociateRequest) -> AssociateReject | None:
    """Why a request can be answered in no way but no; None if it can."""
    if not request.protocol_version & 1:
        return VERSION_NOT_SUPPORTED
    return None if request.application_context == APPLICATION_CONTEXT else CONTEXT_NAME_NOT_SUPPORTED


def answer_request(
    request: AssociateRequest,
    syntaxes_for: Callable[[str], Collection[str]],
    *,
    max_pdu_bytes: int,
    roles: Mapping[str, RoleSelection] | None = None,
) -> AssociateAccept:
    """Say yes, context by context.

    Parameters
    ----------
    syntaxes_for
        The transfer syntaxes taken for an abstract syntax; none if it is not taken at all.
    roles
        Our answer for a SOP class, if the peer asks for roles. One not named keeps the default: the peer sends
        requests, we answer them.
    """
    accepted = [_answer(context, syntaxes_for(context.abstract_syntax)) for context in request.contexts]
    user = UserInformation(
        max_pdu_bytes=max_pdu_bytes,
        implementation_class_uid=OWN_CLASS_UID,
        implementation_version=OWN_VERSION,
        async_window=None if request.user.async_window is None else (1, 1),  # PS3.7 D.3.3.3: one at a time
        roles=tuple(roles[one.sop_class_uid] for one in request.user.roles if roles and one.sop_class_uid in roles),
    )
    return AssociateAccept(request.called_ae, request.calling_ae, tuple(accepted), user)


def _answer(context: PresentationContext, taken: Collection[str]) -> ContextAnswer:
    if not taken:
        return ContextAnswer(context.context_id, ABSTRACT_SYNTAX_NOT_SUPPORTED, context.transfer_syntaxes[0])
    for syntax in context.transfer_syntaxes:
        if syntax in taken:
            return ContextAnswer(context.context_id, 0, syntax)
    return ContextAnswer(context.context_id, TRANSFER_SYNTAXES_NOT_SUPPORTED, context.transfer_syntaxes[0])


def is_private_class(abstract_syntax: str) -> bool:
    """True for a SOP class of a manufacturer, outside of the standard."""
    return UID(abstract_syntax, config.IGNORE).is_private


def is_storage_class(abstract_syntax: str) -> bool:
    """True for a standard SOP class whose objects belong to a patient and are stored.

    Retired ones count: old equipment still sends them. So do those that are newer than our dictionary.
    """
    if not abstract_syntax.startswith((COMPOSITE_OBJECTS, RADIOTHERAPY_OBJECTS)):
        return False
    name = UID(abstract_syntax, config.IGNORE).name
    if name == abstract_syntax:
        return abstract_syntax.startswith(COMPOSITE_OBJECTS)
    return "Storage" in name and not any(word in name for word in NOT_OF_A_PATIENT)
