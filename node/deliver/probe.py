"""What a destination accepts, found out without sending a result: what works, what does not, and what that means.

Nothing that is asked leaves a trace beyond a log line, unless a test message is asked for.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from node.settings import Destination

__all__ = ["Finding", "Probe", "block", "plain"]

LONGEST_WORD = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried: whether it works (None: it cannot be known, or need not), and what that means."""

    what: str
    works: bool | None
    found: str
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found out of a destination, and the block that suits it for ``config.toml``; "" if there is none."""

    destination: str
    is_usable: bool
    findings: tuple[Finding, ...]
    proposal: str


def block(kind: str, destination: Destination, changed: Mapping[str, object]) -> str:
    """A table for ``config.toml``: what is changed, and what is not as it is when left out."""
    lines = [f"[destinations.{destination.name}]", f"kind = {_toml(kind)}"]
    for one in fields(destination):
        value: Any = changed.get(one.name, getattr(destination, one.name))
        if one.name in ("name", "secret", "fields") or (one.name not in changed and value == one.default):
            continue
        lines.append(f"{one.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)  # a basic string of TOML is one of JSON


def plain(text: str) -> str:
    """Words of a peer as one short printable line."""
    return "".join(character for character in text if character.isprintable())[:LONGEST_WORD]
