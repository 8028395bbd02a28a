"""The statement as a document, in the order that PS3.2 Annex A asks for; its words are in `template.md`.

Everything that comes from the configuration is escaped: an AE title can neither end a table nor make a heading.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from textwrap import fill

from node.conformance.records import Destination, Query, SopClass, Statement, TransferSyntax, WebDestination

__all__ = ["WIDTH", "plain", "table", "to_markdown"]

SIGNS = re.compile(r"([\\`*_{}\[\]<>#|~&])")
WIDTH = 120
REPORTS = (
    "An N-EVENT-REPORT of the Storage Commitment Push Model is taken too on an Association that the archive opens, if\n"
    "it proposes by role selection to be the SCP (PS3.4 J.3.3). The transaction must be one that this node asked for."
)
TRIED_AGAIN = "is sent again, after longer and longer pauses, until give_up_after_h"


def to_markdown(statement: Statement) -> str:
    """The whole document; ends with one line feed."""
    template = Template((Path(__file__).parent / "template.md").read_text(encoding="utf-8"))
    storage = [(one.name + (" (retired)" if one.is_retired else ""), one.uid) for one in statement.storage]
    rules = statement.storage_rules or ("nothing",)
    return template.substitute(
        product=statement.product,
        version=statement.version,
        ae_title=plain(statement.ae_title),
        services=_services(statement),
        peers=_peers(statement),
        policies=_policies(statement),
        rejections=table(
            ("result, source, reason", "meaning", "when"),
            [(f"{one.result}, {one.source}, {one.reason}", one.meaning, one.when) for one in statement.rejections],
        ),
        verification=_named(statement.verification),
        verification_syntaxes=_syntaxes(statement.verification_syntaxes),
        storage_syntaxes=_syntaxes(statement.storage_syntaxes),
        storage_classes=table(("SOP class", "UID"), storage),
        storage_rules="\n".join(f"- {rule}" for rule in rules),
        unknown_syntax_result=statement.unknown_syntax_result,
        statuses=_statuses(statement),
        own_max_pdu_bytes=statement.own_max_pdu_bytes,
        destinations="\n".join((*map(_destination, statement.destinations), *map(_query, statement.queries))),
        reports=REPORTS if statement.hears_reports else "None.",
        web="\n".join(map(_web, statement.web_destinations)) or "No destination is one.\n",
        judgements=_judgements(statement),
        interfaces=_interfaces(statement),
        character_sets=fill(", ".join(statement.character_sets), WIDTH),
        security=_security(statement),
    )


def _services(statement: Statement) -> str:
    sent = {proposal.sop_class.uid: proposal.sop_class for to in statement.destinations for proposal in to.proposals}
    asked = {query.sop_class.uid: query.sop_class for query in statement.queries}
    asked |= {one.sop_class.uid: one.sop_class for to in statement.destinations for one in to.asked}
    web = {one.service: one for to in statement.web_destinations for one in to.transactions}
    return table(
        ("network service", "user (SCU)", "provider (SCP)"),
        [
            ("Verification", "yes" if asked.pop(statement.verification.uid, None) else "no", "yes"),
            (f"Storage of {len(statement.storage)} SOP classes of the standard, and others (4.2.1.4)", "no", "yes"),
            *((_named(sent[uid]), "yes", "yes") for uid in sorted(sent)),
            *((_named(asked[uid]), "yes", "no") for uid in sorted(asked)),
            *((f"{service} of DICOMweb (PS3.18), as user agent", "yes", "no") for service in sorted(web, reverse=True)),
        ],
    )


def _peers(statement: Statement) -> str:
    return table(
        ("calling AE title", "address or network", "certificate"),
        [
            (_any(peer.ae_title), _any(peer.address), plain(peer.certificate) or "not asked for")
            for peer in statement.allowed_peers
        ],
    )


def _policies(statement: Statement) -> str:
    limits = statement.limits
    invoked, performed = limits.async_window
    slowest = f"{limits.minimum_bytes_per_s:g} bytes a second" if limits.minimum_bytes_per_s else "no limit"
    return table(
        ("policy", "value"),
        [
            ("application context", statement.application_context),
            ("most Associations at once", limits.max_associations),
            ("most of them from one address", limits.max_associations_per_address),
            ("longest P-DATA-TF taken", f"{limits.max_pdu_bytes} bytes"),
            ("asynchronous operations window", f"{invoked} invoked, {performed} performed"),
            ("implementation class UID", statement.implementation_class_uid),
            ("implementation version name", plain(statement.implementation_version)),
            ("time to open an Association", f"{limits.acse_timeout_s:g} s"),
            ("longest silence on an open one", f"{limits.network_timeout_s:g} s"),
            ("slowest sender inside a message", slowest),
        ],
    )


def _statuses(statement: Statement) -> str:
    return table(
        ("status", "meaning", "when", "the object is", "try again"),
        [
            (
                _code(one.code),
                one.meaning,
                "; ".join(one.when),
                "put aside, with the reason" if one.is_put_aside else "kept" if one.is_kept else "not kept",
                "yes" if one.may_succeed_later else "no",
            )
            for one in statement.statuses
        ],
    )


def _destination(destination: Destination) -> str:
    where = f"{plain(destination.ae_title)} at {plain(destination.host)}, port {destination.port}"
    where += ", with TLS" if destination.is_secure else ", without TLS"
    proposals = table(
        ("object", "SOP class", "UID", "role", "transfer syntaxes, best first"),
        [
            (
                plain(one.kind) + ("" if one.is_its_own else ", if its own class is refused"),
                one.sop_class.name,
                one.sop_class.uid,
                "SCU",
                ", ".join(map(_named, one.transfer_syntaxes)),
            )
            for one in destination.proposals
        ],
    )
    name = plain(destination.name)
    asked = table(
        ("asked about what it took", "UID", "role", "what for", "transfer syntaxes, best first"),
        [
            (one.sop_class.name, one.sop_class.uid, "SCU", one.purpose, ", ".join(map(_named, one.transfer_syntaxes)))
            for one in destination.asked
        ],
    )
    return f"Destination {name}: {where}; it must answer in {destination.timeout_s:g} s.\n\n{proposals}\n" + (
        asked if destination.asked else "It is not asked about what it took.\n"
    )


def _web(destination: WebDestination) -> str:
    transactions = table(
        ("service", "request", "sent", "accepted", "what for"),
        [
            (one.service, f"`{one.request}`", plain(one.sent), plain(one.accepted), one.purpose)
            for one in destination.transactions
        ],
    )
    where = f"{plain(destination.url)}; it must answer in {destination.timeout_s:g} s"
    return f"Destination {plain(destination.name)}: {where}.\n\n{transactions}"


def _query(query: Query) -> str:
    where = f"{plain(query.ae_title)} at {plain(query.host)}, port {query.port}"
    return (
        f"Asked what it holds: {where}; it must answer in {query.timeout_s:g} s. {_named(query.sop_class)}, role SCU, "
        f"at the levels STUDY, SERIES and IMAGE, in:\n\n{_syntaxes(query.transfer_syntaxes)}"
    )


def _judgements(statement: Statement) -> str:
    rows = [
        (
            _code(one.low) if one.low == one.high else f"{_code(one.low)} to {_code(one.high)}",
            one.meaning,
            "is taken as stored" if one.is_taken else "becomes a dead letter" if one.is_final else TRIED_AGAIN,
        )
        for one in statement.judgements
    ]
    return table(("status", "meaning", "the object"), [*rows, ("any other, or no answer", "", TRIED_AGAIN)])


def _interfaces(statement: Statement) -> str:
    return table(
        ("interface", "value"),
        [
            ("protocol", "DICOM upper layer over TCP (PS3.8)"),
            ("address listened on", plain(statement.host)),
            ("port without TLS", statement.plain_port or "closed"),
            ("port with TLS", statement.tls.port or "closed"),
        ],
    )


def _security(statement: Statement) -> str:
    profile = "TLS 1.2 or 1.3 with suites of BCP 195 (PS3.15 B.12)"
    if not statement.tls.port:
        return f"No TLS port is open. One would take {profile}."
    must = "must" if statement.tls.asks_for_certificate else "need not"
    return f"The TLS port takes {profile}; clients {must} show a certificate."


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; each line ends with a line feed."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _syntaxes(syntaxes: Iterable[TransferSyntax]) -> str:
    return table(("transfer syntax", "UID"), [(one.name, one.uid) for one in syntaxes])


def _named(one: SopClass | TransferSyntax) -> str:
    return f"{one.name} ({one.uid})"


def _code(status: int) -> str:
    return f"0x{status:04X}"


def _any(text: str) -> str:
    return "any" if text == "*" else plain(text)


def plain(text: str) -> str:
    """Words of the configuration, as nothing but words."""
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return SIGNS.sub(r"\\\1", printable)
