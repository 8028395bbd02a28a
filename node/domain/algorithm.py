"""What made a result, so that every number can be traced to it."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Algorithm", "Basis"]


class Basis(StrEnum):
    """How an algorithm finds what it finds; printed with its results, and only `LEARNED` may print a probability."""

    LEARNED = "learned"
    RULE_BASED = "rule-based"
    RULES_IN_LEARNED_REGION = "rule-based in a learned region"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The algorithm behind a result, named in every object that leaves the node.

    `weights_sha256` is empty for a rule-based algorithm. `parameters` are the operating point in
    words, such as ``("threshold", "0.5")``, at most 64 characters each.
    """

    name: str
    version: str
    manufacturer: str
    basis: Basis
    weights_sha256: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    device: str = "CPU"
