"""Whether a message has the structure the standard demands, checked by hl7apy before it is stored.

hl7apy takes about a second for 200 observations and looks at values only now and then, so it is
shown each shape of observation once: a repeated shape cannot be wrong in a new way. It also holds
TX and FT in OBX-5 to the 199 characters of ST, so it is shown a stand-in for those, and their length
is checked here. Other values are checked where they are written.
"""

import re

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException, ValidationError
from hl7apy.parser import parse_message

from node.errors import MessageError

__all__ = ["check_structure"]

TEXT = re.compile(r"[^|^~&]+")
VALUE_TYPE, VALUE = 2, 5  # OBX-2 and OBX-5
LONG_TEXTS = ("TX", "FT")
LONGEST_TEXT = 65536  # HL7 v2.5.1 2.A.31 (FT); ours for TX too
ELEMENT = re.compile(r"\b[A-Z][A-Z0-9]{2}_[A-Z0-9_]*[0-9]\b")


def check_structure(message: str) -> None:
    """Refuse a message that is not what its own MSH-9 and MSH-12 promise.

    Raises
    ------
    MessageError
        If a segment, field or component is missing, doubled, out of place or too long; the message
        names the element and never its value.
    """
    skeleton = _each_shape_once(message)
    try:
        parsed = parse_message(skeleton, validation_level=VALIDATION_LEVEL.STRICT)
        parsed.validate()
    except ValidationError as error:
        elements = ", ".join(dict.fromkeys(ELEMENT.findall(str(error)))) or "an element"
        raise MessageError(f"the message does not have its HL7 structure: see {elements}") from None
    except (HL7apyException, ValueError) as error:  # these quote values, so their text goes no further
        raise MessageError(f"the message does not have its HL7 structure: {type(error).__name__}") from None


def _each_shape_once(message: str) -> str:
    seen: set[tuple[str, str]] = set()
    kept = []
    for line in message.split("\r")[:-1]:
        fields = line.split("|")
        shape = (line, "")
        if fields[0] == "OBX" and len(fields) > VALUE:
            shape = (fields[VALUE_TYPE], TEXT.sub("x", line))
            if fields[VALUE_TYPE] in LONG_TEXTS:
                if len(fields[VALUE]) > LONGEST_TEXT:
                    raise MessageError(f"OBX-5 may have {LONGEST_TEXT} characters of text")
                fields[VALUE] = TEXT.sub("x", fields[VALUE])
                if len(fields[VALUE]) > 1:
                    raise MessageError("the text of an observation holds a delimiter that is not escaped")
        if shape not in seen:
            seen.add(shape)
            kept.append(f"{'|'.join(fields)}\r")
    return "".join(kept)
