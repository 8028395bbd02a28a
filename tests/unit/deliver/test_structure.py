"""hl7apy as the judge of our structure."""

import pytest

from node.deliver.structure import check_structure
from node.errors import MessageError

HEAD = (
    "MSH|^~\\&|W||RIS||20260101120000+0000||ORU^R01^ORU_R01|1|P|2.5.1||||||UNICODE UTF-8|||RAD-128^IHE\r"
    "PID|1||7||Canary^Name\rORC|RE\rOBR|1|||^Title|||||||||||||||||||||R\r"
)
OBX = "OBX|1|NM|1^a^DCM|f-1|12|mm^mm^UCUM|||||R\r"


def test_a_whole_message_is_accepted() -> None:
    check_structure(HEAD + OBX)


@pytest.mark.parametrize(
    ("message", "element"),
    [
        (HEAD + OBX.replace("|R\r", "\r"), "OBX_11"),
        (HEAD + OBX.replace("1^a^DCM", ""), "OBX_3"),
        (HEAD.replace("^Title", "") + OBX, "OBR_4"),
        (HEAD.replace("|7|", "||") + OBX, "PID_3"),
        (HEAD + OBX.replace("1^a^DCM", "1^a^DCM^d^e^f^g"), None),
        (HEAD.replace("Canary", "Canary" * 40) + OBX, None),
        (HEAD + OBX.rstrip("\r") + "||||||||||||||||||||x\r", None),
        (HEAD.replace("OBR|", "OBS|") + OBX, None),
        (HEAD.replace("2.5.1", "9.9") + OBX, None),
    ],
)
def test_what_the_standard_demands_and_is_not_there_is_named_without_its_value(
    message: str, element: str | None
) -> None:
    with pytest.raises(MessageError, match=element) as caught:
        check_structure(message)
    assert "Canary" not in str(caught.value)


@pytest.mark.parametrize("value_type", ["TX", "FT"])
def test_long_text_is_accepted_as_long_as_the_standard_allows(value_type: str) -> None:
    text = OBX.replace("NM", value_type).replace("mm^mm^UCUM", "")
    check_structure(HEAD + text.replace("|12|", f"|{'x' * 65536}|"))
    with pytest.raises(MessageError, match="65536"):
        check_structure(HEAD + text.replace("|12|", f"|{'x' * 65537}|"))


def test_a_component_in_the_text_of_an_observation_is_refused() -> None:
    with pytest.raises(MessageError):
        check_structure(HEAD + OBX.replace("NM", "TX").replace("|12|", "|a^b|"))


def test_a_fault_in_a_late_observation_is_not_hidden_by_earlier_ones() -> None:
    with pytest.raises(MessageError, match="OBX_11"):
        check_structure(HEAD + OBX * 30 + OBX.replace("|R\r", "\r"))
