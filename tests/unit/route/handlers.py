"""Handlers that read nothing."""

from node.api import Basis, Handler, Reading, Terms

__all__ = ["handler"]


def handler(name: str, **terms: object) -> Handler:
    """A handler that takes MR, or what `terms` say."""
    found = Terms(**({"modalities": ("MR",)} | terms))  # type: ignore[arg-type]
    return Handler(name, "1", "us", Basis.RULE_BASED, "t", found, lambda _study, _models: Reading(()))
