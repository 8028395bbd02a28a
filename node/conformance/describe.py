"""From the settings, and from the constants the code itself works with, to the statement."""

from collections.abc import Iterable, Iterator

from pydicom._uid_dict import UID_dictionary  # nothing public lists them
from pydicom.charset import python_encoding
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import (
    DEFAULT_TRANSFER_SYNTAXES,
    PYNETDICOM_IMPLEMENTATION_UID,
    PYNETDICOM_IMPLEMENTATION_VERSION,
)
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]  # made at run time

from node import __version__
from node.conformance.records import (
    AllowedPeer,
    Asked,
    Destination,
    Limits,
    Proposal,
    Query,
    SopClass,
    Statement,
    Status,
    Tls,
    TransferSyntax,
    WebDestination,
    WebTransaction,
)
from node.conformance.statuses import JUDGEMENTS, REJECTIONS, STATUSES, WITHOUT_SYNC
from node.deliver.association import OWN_PDU_BYTES
from node.deliver.sent_classes import SENT_CLASSES
from node.deliver.storage import contexts_of
from node.deliver.verify_pacs import ASKED_FOR
from node.dicom.commitment import COMMITMENT
from node.dicom.native import NATIVE_SYNTAXES
from node.dicom.part10 import FileMeta
from node.dicom.repertoires import codec_of
from node.domain.work import OutputKind
from node.network.negotiation import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    KEPT_SYNTAXES,
    OWN_CLASS_UID,
    OWN_VERSION,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    VERIFICATION,
    is_storage_class,
)
from node.network.pdu import APPLICATION_CONTEXT
from node.receive.guard import MINIMUM_BYTES_PER_S
from node.receive.scp import STORAGE_CLASSES, SYNTAXES
from node.settings import DicomDestination, DicomSettings, Sender, Settings, StowDestination, Verify

__all__ = ["describe"]

PRODUCT = "Wetread"
# PS3.6 Table A-1: taken like every class of the standard; our dictionary does not name them yet
NEWER_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
}
PURPOSES = {
    COMMITMENT: "to commit what it took (PS3.4 J.3.2); its report is heard for some seconds on the same Association",
    str(StudyRootQueryRetrieveInformationModelFind): "whether it has what it took, at the level IMAGE",
    VERIFICATION: "so that the Association opens and says that nothing else is offered; no C-ECHO is sent",
}
STORED_BY_WEB = WebTransaction(
    "STOW-RS",
    "POST /studies",
    'multipart/related; type="application/dicom", one instance in Explicit VR Little Endian',
    "application/dicom+json",
    "to store a result (PS3.18 10.5)",
)
FOUND_BY_WEB = WebTransaction(
    "QIDO-RS",
    "GET /studies/{study}/instances?SOPInstanceUID={instance}",
    "",
    "application/dicom+json",
    "whether it has what it took (PS3.18 10.6)",
)
OF_OUR_OWN_LAYER = (0x0122, 0x0211)  # the library of the other receiver has words of its own for these


def describe(settings: Settings) -> Statement:
    """Say what a node with these settings conforms to; nothing is opened or asked."""
    dicom = settings.dicom
    is_own = dicom.receiver == "own"
    return Statement(
        product=PRODUCT,
        version=__version__,
        ae_title=dicom.ae_title,
        host=dicom.host,
        plain_port=dicom.port if dicom.accept_plain else 0,
        tls=Tls(dicom.tls_port, asks_for_certificate=bool(dicom.tls_authorities)),
        application_context=APPLICATION_CONTEXT,
        implementation_class_uid=OWN_CLASS_UID if is_own else str(PYNETDICOM_IMPLEMENTATION_UID),
        implementation_version=OWN_VERSION if is_own else PYNETDICOM_IMPLEMENTATION_VERSION,
        allowed_peers=tuple(AllowedPeer(peer.ae_title, peer.address, peer.certificate) for peer in dicom.allowed_peers),
        limits=_limits(dicom, is_own=is_own),
        verification=SopClass("Verification SOP Class", VERIFICATION, is_retired=False),
        verification_syntaxes=_syntaxes((ImplicitVRLittleEndian, ExplicitVRLittleEndian)),
        storage=_classes(_own_classes() if is_own else STORAGE_CLASSES),
        storage_syntaxes=_syntaxes(KEPT_SYNTAXES if is_own else SYNTAXES),
        storage_rules=_rules(dicom, is_own=is_own),
        unknown_syntax_result=TRANSFER_SYNTAXES_NOT_SUPPORTED if is_own else ABSTRACT_SYNTAX_NOT_SUPPORTED,
        rejections=REJECTIONS if is_own else REJECTIONS[:2],
        statuses=_statuses(settings, is_own=is_own),
        destinations=tuple(
            _destination(destination)
            for destination in settings.destinations.values()
            if isinstance(destination, DicomDestination)
        ),
        hears_reports=is_own
        and any(
            isinstance(one, DicomDestination) and COMMITMENT in ASKED_FOR.get(one.verify, ())
            for one in settings.destinations.values()
        ),
        web_destinations=tuple(
            _web_destination(destination)
            for destination in settings.destinations.values()
            if isinstance(destination, StowDestination)
        ),
        judgements=JUDGEMENTS,
        queries=tuple(map(_query, settings.complete.senders)),
        own_max_pdu_bytes=OWN_PDU_BYTES,
        character_sets=tuple(term for term in python_encoding if term and codec_of(term) is not None),
    )


def _statuses(settings: Settings, *, is_own: bool) -> tuple[Status, ...]:
    stated = STATUSES if settings.store.sync else (WITHOUT_SYNC, *STATUSES[1:])
    return stated if is_own else tuple(status for status in stated if status.code not in OF_OUR_OWN_LAYER)


def _limits(dicom: DicomSettings, *, is_own: bool) -> Limits:
    return Limits(
        max_associations=dicom.max_associations,
        max_associations_per_address=dicom.max_associations_per_address,
        max_pdu_bytes=dicom.max_pdu_bytes,
        acse_timeout_s=dicom.acse_timeout_s,
        network_timeout_s=dicom.network_timeout_s,
        minimum_bytes_per_s=MINIMUM_BYTES_PER_S if is_own else 0.0,
        async_window=(1, 1),
    )


def _own_classes() -> list[str]:
    return [uid for uid in (*UID_dictionary, *NEWER_CLASSES) if is_storage_class(uid)]


def _classes(uids: Iterable[str]) -> tuple[SopClass, ...]:
    return tuple(map(_sop_class, sorted(set(uids), key=_place)))


def _sop_class(uid: str) -> SopClass:
    known = UID(uid)
    return SopClass(NEWER_CLASSES.get(uid, known.name), uid, is_retired=known.is_retired)


def _syntaxes(uids: Iterable[str]) -> tuple[TransferSyntax, ...]:
    return tuple(map(_syntax, sorted(uids, key=_place)))


def _syntax(uid: str) -> TransferSyntax:
    return TransferSyntax(UID(uid).name, str(uid))


def _place(uid: str) -> tuple[int, ...]:
    return tuple(map(int, uid.split(".")))


def _rules(dicom: DicomSettings, *, is_own: bool) -> tuple[str, ...]:
    rules = []
    if dicom.accept_private_sop_classes:
        rules.append("every private SOP class, that is one whose UID does not begin with 1.2.840.10008")
    if is_own:
        rules.append(
            "every class that is newer than the list, that is a UID below 1.2.840.10008.5.1.4.1.1 which the dictionary "
            "of this version does not know"
        )
        rules.append(
            "every class that the requestor declares to be of the Storage Service Class (see extended negotiation)"
        )
    return tuple(rules)


def _destination(destination: DicomDestination) -> Destination:
    kinds = [kind for kind in destination.objects if kind.is_dicom]
    return Destination(
        name=destination.name,
        ae_title=destination.ae_title,
        host=destination.host,
        port=destination.port,
        timeout_s=destination.timeout_s,
        is_secure=destination.tls,
        proposals=tuple(proposal for kind in kinds for proposal in _proposals(kind)),
        asked=tuple(
            Asked(_sop_class(uid), PURPOSES[uid], tuple(map(_syntax, NATIVE_SYNTAXES)))
            for uid in ((*ASKED_FOR[destination.verify], VERIFICATION) if destination.verify in ASKED_FOR else ())
        ),
    )


def _web_destination(destination: StowDestination) -> WebDestination:
    asked = () if destination.verify is Verify.NONE else (FOUND_BY_WEB,)
    return WebDestination(destination.name, destination.url, destination.timeout_s, (STORED_BY_WEB, *asked))


def _proposals(kind: OutputKind) -> Iterator[Proposal]:
    own = str(SENT_CLASSES[kind])
    contexts = contexts_of(FileMeta(own, "", str(ExplicitVRLittleEndian), 0), as_smaller=True)
    for uid in dict.fromkeys(sop_class for sop_class, _ in contexts):
        syntaxes = [syntax for sop_class, syntax in contexts if sop_class == uid]
        yield Proposal(str(kind), _sop_class(uid), uid == own, tuple(map(_syntax, syntaxes)))


def _query(sender: Sender) -> Query:
    return Query(
        ae_title=sender.called_ae or sender.ae_title,
        host=sender.host,
        port=sender.port,
        timeout_s=sender.timeout_s,
        sop_class=_sop_class(str(StudyRootQueryRetrieveInformationModelFind)),
        transfer_syntaxes=tuple(map(_syntax, DEFAULT_TRANSFER_SYNTAXES)),
    )
