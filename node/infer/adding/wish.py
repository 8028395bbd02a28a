"""What a person says of a model that is added; everything is empty until it is said or found out."""

from dataclasses import dataclass

__all__ = ["Wish"]


@dataclass(frozen=True, slots=True)
class Wish:
    """A description, as far as it goes; its words are those of `ModelCard` and `Preparation`.

    `labels_zh` are the labels in Chinese, in the same order; `body_parts` hold ``ANY`` for every part of the body and
    ``SILENT`` to take a header that names none as well; `mean` and `std` have one value, or one for each channel.
    """

    name: str
    version: str = ""
    manufacturer: str = ""
    licence: str = ""
    purpose: str = ""
    population: str = ""
    limits: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    threshold: float | None = None
    task: str = ""
    labels: tuple[str, ...] = ()
    labels_zh: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    anatomy: tuple[str, ...] = ()
    activation: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    template: str = ""
    kind: str = ""
    window: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    channels: int | None = None
    layout: str = ""
    fit: str = ""
    overlap: float = 0.5
    axes: str = ""
