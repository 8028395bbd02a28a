"""What differs between the versions of HL7 in which an ORU is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from node.errors import ConfigError
from node.network.er7 import NOTHING, Er7

__all__ = ["Profile", "profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One version.

    Parameters
    ----------
    message_profile
        MSH-21, which came with 2.4; IHE gives it to RAD-128.
    has_equipment
        OBX-18 and OBX-19 (device and time of the analysis) came with 2.4; before, the node is the producer in OBX-15.
    needs_sub_id
        OBX-4 may not be empty, so what belongs to no finding has 1 there.
    """

    version: str
    message_type: Er7
    message_profile: Er7
    has_equipment: bool
    needs_sub_id: bool


PROFILES: Mapping[str, Profile] = {
    "2.5.1": Profile("2.5.1", Er7("ORU^R01^ORU_R01"), Er7("RAD-128^IHE"), has_equipment=True, needs_sub_id=False),
    # HL7 v2.3.1 2.24.1.9: the structure is named only where the event does not tell it
    "2.3.1": Profile("2.3.1", Er7("ORU^R01"), NOTHING, has_equipment=False, needs_sub_id=True),
}


def profile(version: str) -> Profile:
    """The version of that name.

    Raises
    ------
    ConfigError
        If the node does not write it.
    """
    try:
        return PROFILES[version]
    except KeyError:
        raise ConfigError(f"version {version!r} is not one of: {', '.join(PROFILES)}") from None
