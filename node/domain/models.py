"""What a model says of itself."""

from dataclasses import dataclass

__all__ = ["ModelCard", "Tensor"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a model: its name in the file and its shape, -1 where any size is taken."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The manifest of a model, ``models/<name>/model.toml``; a card without limits does not load.

    `sha256` is of the weights file; `threshold` the operating point on the output.
    """

    name: str
    version: str
    manufacturer: str
    file: str
    sha256: str
    licence: str
    purpose: str
    population: str
    limits: tuple[str, ...]
    not_for: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    threshold: float
