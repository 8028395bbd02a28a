"""From a graph and a person's words to a description without gaps, or the list of what is missing.

What the file says is taken from it and told; what it cannot say is asked for. Nothing that changes a result is guessed:
which numbers a model wants, or what its threshold is, no file tells.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from node.domain.models import Preparation
from node.errors import ModelError
from node.infer.adding.boxes import is_detector
from node.infer.adding.graph import Graph, last_operation, stored_labels
from node.infer.adding.wish import Wish

__all__ = ["Described", "describe"]

CHANNEL_COUNTS = (1, 3)
KINDS = {"CT": "hu, with --window CENTRE,WIDTH", "MR": "percentile, with --window 1,99"}
REQUIRED = {
    "version": "--version", "manufacturer": "--manufacturer: who made it", "licence": "--licence",
    "purpose": "--purpose: what it is for, one sentence", "population": "--population: on whom it was trained",
    "limits": "--limits: what it cannot do; may be given several times",
    "not_for": "--not-for: may be given several times",
    "modalities": "--modality: values of Modality, such as CR,DX",
    "body_parts": "--body-part: values of Body Part Examined, such as CHEST; SILENT for headers without one; or ANY",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Described:
    """A wish without gaps, how images are prepared, and what was found out or taken for granted, in words."""

    wish: Wish
    preparation: Preparation
    found: tuple[str, ...]


def describe(graph: Graph, wish: Wish) -> Described:
    """Fill in what the file says, and make sure that nothing is missing.

    Raises
    ------
    ModelError
        With everything that is missing, and the option that says it.
    """
    if len(graph.inputs) != 1:
        names = ", ".join(tensor.name for tensor in graph.inputs)
        raise ModelError(f"expected one input, found {len(graph.inputs)} ({names}): write a handler for this model")
    found: list[str] = []
    missing = [option for key, option in REQUIRED.items() if not getattr(wish, key)]
    wish = _fill(graph, wish, found)
    missing += _missing(graph, wish)
    if missing:
        told = f"\nFound out: {'; '.join(found)}" if found else ""
        raise ModelError("this is missing:\n  " + "\n  ".join(missing) + told)
    return Described(wish, _preparation(wish), tuple(found))


def _fill(graph: Graph, wish: Wish, found: list[str]) -> Wish:
    """Take from the file what it says; each step may build on the one before."""
    steps: tuple[tuple[str, Callable[[Graph, Wish], object]], ...] = (
        ("task", _task), ("layout", _layout), ("channels", _channels), ("size", _size), ("activation", _activation),
        ("labels", _labels), ("fit", _fit),
    )  # fmt: skip
    for key, propose in steps:
        if getattr(wish, key) in ("", (), None):
            value = propose(graph, wish)
            if value not in ("", (), None):
                wish = replace(wish, **{key: value})  # type: ignore[arg-type]  # each step gives its field's type
                found.append(f"{key} {_said(value)}")
    for key, value in (("mean", (0.0,)), ("std", (1.0,))):
        if not getattr(wish, key):
            wish = replace(wish, **{key: value})  # type: ignore[arg-type]  # as above
            found.append(f"{key} {value[0]:g}, as nothing was said")
    return wish


def _said(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, tuple) else str(value)


def _task(graph: Graph, wish: Wish) -> str:
    del wish
    if is_detector(graph):
        return "detection"
    rank = len(graph.outputs[0].shape)
    return {2: "classification", len(graph.inputs[0].shape): "segmentation"}.get(rank, "")


def _layout(graph: Graph, wish: Wish) -> str:
    shape = graph.inputs[0].shape
    if len(shape) not in (4, 5):
        return ""
    letters = "HW" if len(shape) == 4 else "DHW"
    channels = (wish.channels,) if wish.channels else CHANNEL_COUNTS
    is_first, is_last = shape[1] in channels, shape[-1] in channels
    return "" if is_first == is_last else f"NC{letters}" if is_first else f"N{letters}C"


def _channels(graph: Graph, wish: Wish) -> int | None:
    shape = graph.inputs[0].shape
    if not wish.layout or len(shape) != len(wish.layout):
        return None
    count = shape[wish.layout.index("C")]
    return count if count > 0 else None


def _size(graph: Graph, wish: Wish) -> tuple[int, ...]:
    shape = graph.inputs[0].shape
    if not wish.layout or len(shape) != len(wish.layout):
        return ()
    sides = tuple(shape[wish.layout.index(axis)] for axis in wish.layout if axis in "DHW")
    return sides if min(sides) > 0 else ()


def _activation(graph: Graph, wish: Wish) -> str:
    ends_in_scores = last_operation(graph) in ("Softmax", "Sigmoid")
    return "none" if ends_in_scores or wish.task == "detection" else ""


def _labels(graph: Graph, wish: Wish) -> tuple[str, ...]:
    del wish
    return tuple(re.sub(r"\W+", "_", label.strip().lower()).strip("_") for label in stored_labels(graph))


def _fit(graph: Graph, wish: Wish) -> str:
    del graph
    if wish.spacing_mm:
        return "pad" if wish.task == "classification" else "tiles"
    return "stretch"


def _missing(graph: Graph, wish: Wish) -> list[str]:
    shape = list(graph.inputs[0].shape)
    missing = []
    if not wish.task:
        missing.append("--task classification, segmentation or detection")
    if not wish.layout:
        missing.append(f"--layout NCHW, NHWC, NCDHW or NDHWC: the input is {shape}")
    if wish.channels is None:
        missing.append(f"--channels: the input is {shape}")
    if not wish.size:
        missing.append(f"--size: rows,columns or slices,rows,columns; the input is {shape}")
    if not wish.labels:
        missing.append(f"--labels: one for each of what the output {list(graph.outputs[0].shape)} holds, in order")
    if not wish.activation:
        missing.append(f"--activation none, sigmoid or softmax: the graph ends in {last_operation(graph) or 'nothing'}")
    if wish.threshold is None:
        missing.append("--threshold: the operating point, 0 to 1")
    if not wish.kind:
        usual = next((KINDS[one] for one in wish.modalities if one in KINDS), "display")
        missing.append(f"--kind hu, display, percentile or range: which numbers it was trained on; often {usual}")
    if wish.kind in ("hu", "percentile") and len(wish.window) != 2:
        what = "CENTRE,WIDTH in HU" if wish.kind == "hu" else "two percentiles, such as 1,99"
        missing.append(f"--window: {what}")
    if wish.labels_zh and len(wish.labels_zh) != len(wish.labels):
        missing.append(f"--labels-zh: {len(wish.labels)} of them, as there are labels")
    return missing


def _preparation(wish: Wish) -> Preparation:
    several = len(wish.mean) > 1 or len(wish.std) > 1
    channels = wish.channels or 1
    return Preparation(
        kind=wish.kind,
        size=wish.size,
        window=(wish.window[0], wish.window[1]) if wish.window else None,
        mean=0.0 if several else wish.mean[0],
        std=1.0 if several else wish.std[0],
        spacing_mm=wish.spacing_mm or None,
        channels=channels,
        channel_means=_each(wish.mean, channels) if several else (),
        channel_stds=_each(wish.std, channels) if several else (),
        layout=wish.layout,
        fit=wish.fit,
        overlap=wish.overlap,
        axes=wish.axes,
    )


def _each(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values
