"""What a hospital's systems say about a Study beside its images: who ordered what, why, and how urgently."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from node.domain.codes import Code
from node.domain.study import Order
from node.domain.work import Priority

__all__ = ["OrderContext", "PatientEvent", "PatientIdentifier", "Received", "add_orders", "most_urgent"]


@dataclass(frozen=True, slots=True)
class PatientIdentifier:
    """One id of a patient, and who gave it: a name, a UID, both or neither."""

    value: str
    issuer: str = ""
    issuer_uid: str = ""

    def is_issued_by(self, issuer: str) -> bool:
        """True unless both sides name an issuer and it is another one."""
        named = {name.casefold() for name in (self.issuer, self.issuer_uid) if name}
        return not issuer or not named or issuer.casefold() in named


@dataclass(frozen=True, slots=True)
class OrderContext:
    """One order as a message says it; "" where the message says nothing.

    `priority` is None if the message does not name one. `ordering_provider` and `location` are the components of
    their fields.
    """

    accession_number: str
    patient_ids: tuple[PatientIdentifier, ...]
    control: str = ""
    is_cancelled: bool = False
    placer_order_number: str = ""
    filler_order_number: str = ""
    priority: Priority | None = None
    procedure: Code | None = None
    indication: str = ""
    reason: str = ""
    ordering_provider: tuple[str, ...] = ()
    patient_class: str = ""
    location: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PatientEvent:
    """What an ADT message says: where a patient is, or that two ids are one patient's (`merged_ids` are the old)."""

    trigger: str
    patient_ids: tuple[PatientIdentifier, ...]
    merged_ids: tuple[PatientIdentifier, ...] = ()
    patient_class: str = ""
    location: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """One message that can be kept: `sender` and `control_id` tell it from every other; `kind` is such as ORM^O01."""

    sender: str
    control_id: str
    kind: str
    digest: str
    orders: tuple[OrderContext, ...] = ()
    events: tuple[PatientEvent, ...] = ()


def add_orders(order: Order, found: Sequence[OrderContext]) -> Order:
    """Fill what the header of the images lacks with what the orders of the same Accession Number say.

    The header stands where both speak. Of several orders only what they agree on is taken: a number that may be that
    of the other order is left out, because it is never invented.
    """
    return replace(
        order,
        placer_order_number=order.placer_order_number or _agreed([one.placer_order_number for one in found]),
        filler_order_number=order.filler_order_number or _agreed([one.filler_order_number for one in found]),
        procedure=order.procedure or _agreed_code([one.procedure for one in found]),
        indication=order.indication or _agreed([one.indication for one in found]),
        reason=order.reason or _agreed([one.reason for one in found]),
        ordering_provider=order.ordering_provider or _agreed_parts([one.ordering_provider for one in found]),
        patient_class=order.patient_class or _agreed([one.patient_class for one in found]),
        location=order.location or _agreed_parts([one.location for one in found]),
    )


def most_urgent(found: Sequence[OrderContext]) -> Priority | None:
    """The most urgent priority that any of the orders names; None if none does."""
    return min((one.priority for one in found if one.priority is not None), default=None)


def _agreed(values: Sequence[str]) -> str:
    said = {value for value in values if value}
    return said.pop() if len(said) == 1 else ""


def _agreed_parts(values: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    said = {value for value in values if value}
    return said.pop() if len(said) == 1 else ()


def _agreed_code(values: Sequence[Code | None]) -> Code | None:
    said = {value for value in values if value is not None}
    return said.pop() if len(said) == 1 else None
