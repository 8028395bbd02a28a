"""The HL7 statement of this node as it is configured: what it sends and takes, field by field, and what it answers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from textwrap import fill

from node import __version__
from node.conformance.describe import PRODUCT
from node.conformance.hl7_fields import ACK_FIELDS, ORU_FIELDS, Field
from node.conformance.markdown import WIDTH, plain, table
from node.deliver.observations import OBSERVATIONS
from node.domain.work import Priority
from node.network.er7 import CODECS
from node.receive.hl7_content import CANCELLED, KINDS, MEANINGS, URGENCY, VERSIONS
from node.settings import FieldRule, Hl7Destination, Hl7Settings, Settings
from node.settings.hl7 import LITERAL, SETTABLE, SOURCES

__all__ = ["hl7_statement"]

JUDGEMENTS = (
    ("AA, CA", "accepted", "has been delivered"),
    ("AE, CE", "its content is refused", "becomes a dead letter, with the error codes"),
    ("AR, CR", "rejected for other reasons", "is sent again"),
    ("none in `ack_timeout_s`", "silence, or a connection that ends", "is sent again, over a new connection"),
    ("MSA-2 of another message", "not the answer to ours", "is waited for on"),
)
VERDICTS = (
    ("AA", "", "the message is committed to the disk"),
    ("AE", "100, 101, 102", "a segment or field that is needed is missing, or a value cannot be taken"),
    ("AE", "205", "another message had this id"),
    ("AR", "200, 201, 202, 203", "message type, event, processing id (other than P) or version is not one we take"),
    ("AR", "207", "the disk is nearly full, or the message cannot be kept now: send it again later"),
)
RECEIVED = (
    ("PID-3", "patient ids with their issuers; required"),
    ("PV1-2, PV1-3", "patient class and location; of an ADT message, for orders that say neither"),
    ("ORC-1", "order control; cancelled: {cancelled}"),
    ("OBR-2, ORC-2", "placer order number"),
    ("OBR-3, ORC-3", "filler order number"),
    ("{accession}", "accession number, the first of these that is there; required"),
    ("TQ1-9, ORC-7.6, OBR-27.6, OBR-5", "priority: {urgency}; other words say nothing"),
    ("OBR-4", "procedure code"),
    ("OBR-13", "relevant clinical information"),
    ("OBR-16, ORC-12", "who ordered"),
    ("OBR-31", "reason for the study: its text, else its code"),
    ("MRG-1", "of a merge: the patient id that goes"),
)


def hl7_statement(settings: Settings) -> str:
    """The whole document; ends with one line feed."""
    template = Template((Path(__file__).parent / "hl7.md").read_text(encoding="utf-8"))
    hl7 = settings.hl7
    destinations = [one for one in settings.destinations.values() if isinstance(one, Hl7Destination)]
    return template.substitute(
        product=PRODUCT,
        version=__version__,
        messages=_messages(),
        destinations=_destinations(destinations),
        oru_fields=_fields(ORU_FIELDS, ("2.5.1", "2.3.1")),
        observations=table(("OBX-3", "type", "what it says"), OBSERVATIONS),
        settable=_settable(),
        sources=table(("source", "value"), [*SOURCES.items(), (f"{LITERAL}:TEXT", "the text itself")]),
        judgements=table(("answer", "meaning", "the message"), JUDGEMENTS),
        listener=_listener(hl7),
        received=table(
            ("field", "what it gives"), [(_filled(name, hl7), _filled(what, hl7)) for name, what in RECEIVED]
        ),
        late=_late(settings),
        verdicts=table(("MSA-1", "error (table 0357)", "when"), [(a, _meanings(b), c) for a, b, c in VERDICTS]),
        ack_fields=_fields(ACK_FIELDS, ("2.5 and later", "before")),
        limits=_limits(hl7),
        character_sets=fill(", ".join(CODECS), WIDTH),
    )


def _messages() -> str:
    taken = {kind: ", ".join(event for name, event in KINDS if name == kind) for kind in ("ORM", "OMI", "ADT")}
    rows = [("ORU^R01", "a result for a RIS", "2.5.1 or 2.3.1", "sent")]
    what = {"ORM": "an order", "OMI": "an imaging order", "ADT": "where a patient is; A40: two ids are one patient's"}
    rows += [
        (f"{kind}^{events}", what[kind], f"{VERSIONS[0]} to {VERSIONS[-1]}", "taken") for kind, events in taken.items()
    ]
    return table(("message", "meaning", "versions", "direction"), rows)


def _destinations(destinations: Sequence[Hl7Destination]) -> str:
    rows = [
        (
            plain(one.name), f"{plain(one.host)}, port {one.port}", "yes" if one.tls else "no", one.version,
            one.coded_type, one.acknowledgement, plain(one.character_set), f"{one.ack_timeout_s:g} s",
            ", ".join(map(_place, one.fields)) or "none",
        )
        for one in destinations
    ]  # fmt: skip
    names = ("destination", "address", "TLS", "version", "coded type", "acknowledgement", "character set", "time limit")
    return table((*names, "fields of its own"), rows) if rows else "No RIS is configured.\n"


def _place(rule: FieldRule) -> str:
    return f"{rule.segment}-{'.'.join(str(one) for one in (rule.number, rule.component, rule.subcomponent) if one)}"


def _fields(fields: Iterable[Field], columns: tuple[str, str]) -> str:
    rows = [
        (
            f"{one.segment}-{one.number}",
            "yes" if "2.5.1" in one.versions else "",
            "yes" if "2.3.1" in one.versions else "",
            one.source,
        )
        for one in fields
    ]
    return table(("field", *columns, "source"), [tuple(_cell(value) for value in row) for row in rows])


def _cell(value: str) -> str:
    return value.replace("|", "\\|")


def _settable() -> str:
    rows = [(name, *(_ranges(SETTABLE[version][name]) for version in SETTABLE)) for name in SETTABLE["2.5.1"]]
    return table(("segment", *SETTABLE), rows)


def _ranges(numbers: Sequence[int]) -> str:
    """Such as 3-6, 8, 11."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _listener(hl7: Hl7Settings) -> str:
    if not hl7.port:
        return "The listener is off: `port` of `[hl7]` is 0.\n"
    return table(
        ("listener", "value"),
        [
            ("address", f"{plain(hl7.host)}, port {hl7.port}"),
            ("TLS", _tls(hl7)),
            ("who may send", ", ".join(map(plain, hl7.allowed_peers))),
            ("character set of a message without MSH-18", plain(hl7.character_set)),
        ],
    )


def _late(settings: Settings) -> str:
    """What becomes of an order that comes after the results."""
    if not settings.report.resend_after_late_order:
        words = (
            "An order that comes when the results were made changes nothing and sends nothing again; `wetread explain` "
            "tells of it. A RIS that files by placer order number may want `resend_after_late_order` of `[report]`, "
            "which sends it the message again."
        )
    else:
        words = (
            "When an order comes after the results were made, at most "
            f"{settings.deliver.give_up_after_h:g} h later (`give_up_after_h`), each RIS is sent the message of the "
            "reading again, with what the order says, as corrected (C in OBR-25 and OBX-11), if that is more or other "
            "than what the message before said. MSH-10 is new; on every retry it is the same. The DICOM objects, and "
            "JSON and FHIR, stay as they are. Only the last generation of a study is sent again. `wetread explain` "
            "tells of it."
        )
    return f"{fill(words, WIDTH)}\n"


def _tls(hl7: Hl7Settings) -> str:
    if not hl7.tls:
        return "no"
    return "yes, clients must show a certificate" if hl7.tls_authorities else "yes"


def _limits(hl7: Hl7Settings) -> str:
    return table(
        ("limit", "value"),
        [
            ("connections at once", hl7.max_connections),
            ("of them from one address", hl7.max_connections_per_address),
            ("longest message", f"{hl7.max_message_kb} kB"),
            ("time for a message to arrive, and for the first to begin", f"{hl7.message_timeout_s:g} s"),
            ("silence between messages", f"{hl7.idle_timeout_s:g} s"),
            ("an order is forgotten", f"{hl7.keep_days} days after it came" if hl7.keep_days else "never"),
        ],
    )


def _filled(words: str, hl7: Hl7Settings) -> str:
    urgency = "; ".join(
        f"{', '.join(word for word, meant in URGENCY.items() if meant is priority)} {priority.name.lower()}"
        for priority in Priority
    )
    return words.format(cancelled=", ".join(sorted(CANCELLED)), urgency=urgency, accession=", ".join(hl7.accession))


def _meanings(codes: str) -> str:
    return ", ".join(f"{code} {MEANINGS[code]}" for code in codes.split(", ") if code)
