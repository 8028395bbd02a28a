"""What a message that was made before says: which reports it names, and of which order it is."""

from node.deliver.observations import SERIES_UID, SOP_UID
from node.network.hl7 import Segment, parse_message
from node.settings import Hl7Destination

__all__ = ["named_reports", "order_of_message"]

ORDER = ("PV1", "ORC", "OBR")
OF_THE_RESULT = (22, 25)  # OBR-22 and OBR-25: when, and whether it is a correction


def named_reports(content: bytes, destination: Hl7Destination) -> tuple[str, tuple[str, ...]]:
    """Series Instance UID ("" if there is none) and SOP Instance UIDs of the reports that a message names.

    Raises
    ------
    MessageError
        If it cannot be read.
    """
    named: dict[str, list[str]] = {SERIES_UID.value: [], SOP_UID.value: []}
    for one in _segments(content, destination):
        if one.name == "OBX" and one.text(3) in named:
            named[one.text(3)].append(one.text(5))
    return next(iter(named[SERIES_UID.value]), ""), tuple(named[SOP_UID.value])


def order_of_message(content: bytes, destination: Hl7Destination) -> list[tuple[str, ...]]:
    """All that a message says of order and visit, to be compared with another; raises `MessageError` as above."""
    return [
        tuple("" if one.name == "OBR" and number in OF_THE_RESULT else value for number, value in enumerate(one.fields))
        for one in _segments(content, destination)
        if one.name in ORDER
    ]


def _segments(content: bytes, destination: Hl7Destination) -> tuple[Segment, ...]:
    return parse_message(content, character_set=destination.character_set).segments
