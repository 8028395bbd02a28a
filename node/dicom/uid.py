"""Unique identifiers: made so that the same thing always gets the same one, and checked before use."""

import json
import re
import uuid

__all__ = ["derive_uid", "is_valid_uid"]

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "wetread")
LONGEST_UID = 64  # PS3.5 9.1
# PS3.5 9.1, but components with leading zeros are taken: some modalities write them, and their images count too.
UID = re.compile(r"[0-9]+(\.[0-9]+)+")


def derive_uid(*parts: str) -> str:
    """Make the UID that always belongs to these parts, in this order.

    The parts are joined so that no two different lists of parts give the same text.

    References
    ----------
    PS3.5 B.2: ``2.25.`` and a UUID as one decimal integer; here a name-based one (RFC 9562 5.5).
    """
    return f"2.25.{uuid.uuid5(NAMESPACE, json.dumps(parts)).int}"


def is_valid_uid(text: str) -> bool:
    """True if the text is digits and single dots, at most 64; such a text can hold no path and no markup."""
    return len(text) <= LONGEST_UID and UID.fullmatch(text) is not None
