"""Coded concepts."""

from dataclasses import dataclass

__all__ = ["Code"]


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept: what a viewer shows and a computer compares (PS3.3 section 8).

    `value` is at most 16 characters, `meaning` at most 64; `scheme` is a designator of PS3.16
    section 8, such as ``DCM``, ``SCT`` or ``UCUM``.
    """

    value: str
    scheme: str
    meaning: str
