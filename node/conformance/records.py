"""What a conformance statement says, as records: each line of it can be tried out on a running node."""

from dataclasses import dataclass

__all__ = [
    "AllowedPeer",
    "Asked",
    "Destination",
    "Judgement",
    "Limits",
    "Proposal",
    "Query",
    "Rejection",
    "SopClass",
    "Statement",
    "Status",
    "Tls",
    "TransferSyntax",
    "WebDestination",
    "WebTransaction",
]


@dataclass(frozen=True, slots=True)
class TransferSyntax:
    """An encoding, by its name in the standard."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class SopClass:
    """A kind of object, by its name in the standard."""

    name: str
    uid: str
    is_retired: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A status the node answers with: its number, what it means, when it is given.

    `is_kept` tells that the object is stored, `is_put_aside` that it is in quarantine, with the reason, and
    `may_succeed_later` that the sender should try again.
    """

    code: int
    meaning: str
    when: tuple[str, ...]
    is_kept: bool = False
    is_put_aside: bool = False
    may_succeed_later: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ by its three numbers (PS3.8 Table 9-21), and when it is given."""

    result: int
    source: int
    reason: int
    meaning: str
    when: str


@dataclass(frozen=True, slots=True)
class AllowedPeer:
    """Who may open an Association; "*" is any."""

    ae_title: str
    address: str
    certificate: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What an Association that others open is held to; `minimum_bytes_per_s` 0 is none."""

    max_associations: int
    max_associations_per_address: int
    max_pdu_bytes: int
    acse_timeout_s: float
    network_timeout_s: float
    minimum_bytes_per_s: float
    async_window: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tls:
    """The secure port; `port` 0 is none."""

    port: int
    asks_for_certificate: bool


@dataclass(frozen=True, slots=True)
class Proposal:
    """A kind of object that is sent, in a SOP class, and the transfer syntaxes it is proposed in, best first.

    Each is a presentation context of its own. `is_its_own` is False for a smaller class, which is used if the PACS does
    not take the object's own.
    """

    kind: str
    sop_class: SopClass
    is_its_own: bool
    transfer_syntaxes: tuple[TransferSyntax, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A service that a PACS is asked for about what it took, as its user, and what for."""

    sop_class: SopClass
    purpose: str
    transfer_syntaxes: tuple[TransferSyntax, ...]


@dataclass(frozen=True, slots=True)
class Destination:
    """A PACS that results are sent to; `asked` has what follows that, best first, each a context of its own."""

    name: str
    ae_title: str
    host: str
    port: int
    timeout_s: float
    is_secure: bool
    proposals: tuple[Proposal, ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class WebTransaction:
    """A request of DICOMweb: its service, what is asked below the root, and the media types that go and may come."""

    service: str
    request: str
    sent: str
    accepted: str
    purpose: str


@dataclass(frozen=True, slots=True)
class WebDestination:
    """An origin server that results are sent to as its user agent."""

    name: str
    url: str
    timeout_s: float
    transactions: tuple[WebTransaction, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A sender that is asked what it holds, and the presentation context that is proposed for it."""

    ae_title: str
    host: str
    port: int
    timeout_s: float
    sop_class: SopClass
    transfer_syntaxes: tuple[TransferSyntax, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the node makes of the status of a PACS; `low` to `high` are all statuses it holds for."""

    low: int
    high: int
    meaning: str
    is_taken: bool
    is_final: bool


@dataclass(frozen=True, slots=True)
class Statement:
    """A node's conformance statement.

    `plain_port` 0 is none. `storage` lists the classes by name that are taken, each in every one of
    `storage_syntaxes`; `storage_rules` say in words what else is taken.
    `unknown_syntax_result` is the answer to a class of storage in no transfer syntax of these (PS3.8 Table 9-18), and
    `own_max_pdu_bytes` is the longest P-DATA-TF that a PACS may answer with. With `hears_reports` a PACS
    may report what it commits on an Association that it opens.
    """

    product: str
    version: str
    ae_title: str
    host: str
    plain_port: int
    tls: Tls
    application_context: str
    implementation_class_uid: str
    implementation_version: str
    allowed_peers: tuple[AllowedPeer, ...]
    limits: Limits
    verification: SopClass
    verification_syntaxes: tuple[TransferSyntax, ...]
    storage: tuple[SopClass, ...]
    storage_syntaxes: tuple[TransferSyntax, ...]
    storage_rules: tuple[str, ...]
    unknown_syntax_result: int
    rejections: tuple[Rejection, ...]
    statuses: tuple[Status, ...]
    destinations: tuple[Destination, ...]
    hears_reports: bool
    web_destinations: tuple[WebDestination, ...]
    judgements: tuple[Judgement, ...]
    queries: tuple[Query, ...]
    own_max_pdu_bytes: int
    character_sets: tuple[str, ...]
