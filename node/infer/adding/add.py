"""Brings an ONNX file into the site as an application that runs: checked, tried out, and only then put in place."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from node.domain.models import ModelCard, Preparation, Tensor
from node.errors import ModelError
from node.infer.adding.boxes import with_one_table
from node.infer.adding.cam import with_heat_map
from node.infer.adding.describe import Described, describe
from node.infer.adding.graph import Graph, read_graph
from node.infer.adding.toml import card_toml
from node.infer.adding.trial import shapes_of
from node.infer.adding.wish import Wish
from node.infer.adding.words import NOT_LOOKED_AT, card_words, rule_words, template_words
from node.infer.card_checks import KEY
from node.infer.generic import handler_of
from node.infer.generic.network import boxes_of, class_scores, plane_scores, prepared, raw_outputs
from node.infer.models import load_manifest
from node.infer.session import open_model
from node.paths import write_atomically

__all__ = ["Added", "add_model"]

FILE, RULE = "model.onnx", "rule.toml"
HEADING = """Written by `wetread models add`; every key may be edited, but the file must be the one with this sha256.
What the keys mean: docs/models.md. What the model is: card.md. A rule for config.toml: rule.toml."""


@dataclass(frozen=True, slots=True)
class Added:
    """What was made: `template` is the report template that was drafted, None if one was there.

    `found` is what the file said, or what was taken for granted; `rule` stands in ``rule.toml`` as well.
    """

    name: str
    folder: Path
    sha256: str
    heat_map_method: str
    found: tuple[str, ...]
    rule: str
    template: Path | None


@dataclass(frozen=True, slots=True, eq=False)
class _Edited:
    """The graph that will run, its outputs, and what was done to it."""

    model: onnx.ModelProto
    outputs: tuple[Tensor, ...]
    heat_map: str
    changes: str


def add_model(
    path: Path, wish: Wish, *, models: Path, templates: Path, check_report: Callable[[ModelCard, Path], None]
) -> Added:
    """Make a model of the site from an ONNX file.

    Parameters
    ----------
    path
        The file; it is copied.
    wish
        What a person says of it.
    models, templates
        The site's ``models/`` and ``sr_templates/``.
    check_report
        Refuses a card whose report template, in the folder it is given, does not know what the model may say.

    Raises
    ------
    ModelError
        If the file is no ONNX model that runs, something is missing or wrong in `wish`, or there is a model or handler
        of that name. Then nothing was written.
    ConfigError
        If there is no onnxruntime.
    """
    _check_name(wish, models)
    graph = read_graph(path)
    described = describe(graph, wish)
    edited = _edit(graph, described)
    content = _serialized(edited.model, path)
    card = _card(graph, described, edited, hashlib.sha256(content).hexdigest())
    working = Path(tempfile.mkdtemp(prefix=".adding-", dir=models))
    try:
        folder = working / wish.name
        folder.mkdir()
        write_atomically(folder / FILE, content, mode=0o644)
        write_atomically(folder / "model.toml", card_toml(card, HEADING).encode(), mode=0o644)
        with path.open("rb") as file:
            origin_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        words = card_words(
            card, described.preparation, origin=path.name, origin_sha256=origin_sha256, changes=edited.changes
        )
        write_atomically(folder / "card.md", words.encode(), mode=0o644)
        write_atomically(folder / RULE, rule_words(card).encode(), mode=0o644)
        _try_out(folder)
        draft = _draft_template(card, described.wish, templates, working)
        check_report(card, draft.parent if draft else templates)
        folder.rename(models / wish.name)
        if draft is not None:
            write_atomically(templates / draft.name, draft.read_bytes(), mode=0o644)
    finally:
        shutil.rmtree(working)
    return Added(
        name=wish.name,
        folder=models / wish.name,
        sha256=card.sha256,
        heat_map_method=card.heat_map_method,
        found=(*described.found, edited.changes),
        rule=rule_words(card),
        template=templates / f"{wish.name}.toml" if draft else None,
    )


def _check_name(wish: Wish, models: Path) -> None:
    if not KEY.fullmatch(wish.name):
        raise ModelError(f"--name must be small letters, digits and _, beginning with a letter; found {wish.name!r}")
    if (models / wish.name).exists():
        raise ModelError(f"{models / wish.name} is there already: take it away first, or choose another name")
    if (models.parent / "handlers" / f"{wish.name}.py").exists():
        raise ModelError(f"there is a handler {wish.name} already: choose another name")


def _edit(graph: Graph, described: Described) -> _Edited:
    sample = _sample(described.preparation)
    shape = graph.inputs[0].shape
    if len(shape) != sample.ndim or any(want not in (-1, got) for want, got in zip(shape, sample.shape, strict=True)):
        raise ModelError(f"the input is {list(shape)}, but size, channels and layout make {list(sample.shape)}")
    task, labels = described.wish.task, described.wish.labels
    if task == "detection":
        shapes_of(graph, sample)
        model, table = with_one_table(graph)
        return _Edited(model, (table,), "", "its outputs were brought into one table of boxes")
    first = _with_shape(graph.outputs[0], shapes_of(graph, sample)[graph.outputs[0].name])
    if task != "classification":
        return _Edited(graph.model, (first,), "", "the file was not changed")
    made = with_heat_map(graph, sample, len(labels))
    if made.tensor is None:
        return _Edited(graph.model, (first,), "", "no features can be seen in it: heat maps come from hiding parts")
    why_not = f", since Grad-CAM is not possible here: {made.why_not}" if made.why_not else ""
    changes = f"a second output for heat maps by {made.method} was added{why_not}"
    return _Edited(made.model, (first, made.tensor), made.method, changes)


def _sample(preparation: Preparation) -> npt.NDArray[np.float32]:
    """An image of noise as the model takes it, the same every time."""
    values = np.random.default_rng(0).random(preparation.size, np.float32)
    return prepared(values, preparation)


def _with_shape(tensor: Tensor, seen: Sequence[int]) -> Tensor:
    """A tensor whose number of axes the file may have left open."""
    return tensor if tensor.shape else Tensor(tensor.name, (-1,) * len(seen))


def _serialized(model: onnx.ModelProto, path: Path) -> bytes:
    try:
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
    except ValueError as error:
        raise ModelError(f"{path}: larger than one ONNX file can be (2 GiB)") from error
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path}: it is not valid with its second output: {str(error).splitlines()[0]}") from error
    return content


def _card(graph: Graph, described: Described, edited: _Edited, sha256: str) -> ModelCard:
    wish = described.wish
    parts = tuple("" if part == "SILENT" else part for part in wish.body_parts if part != "ANY")
    return ModelCard(
        name=wish.name,
        version=wish.version,
        manufacturer=wish.manufacturer,
        file=FILE,
        sha256=sha256,
        licence=wish.licence,
        purpose=wish.purpose,
        population=wish.population,
        limits=wish.limits,
        not_for=wish.not_for,
        inputs=graph.inputs,
        outputs=edited.outputs,
        threshold=wish.threshold or 0.0,
        task=wish.task,
        labels=wish.labels,
        ignored_labels=wish.ignored,
        anatomy_labels=wish.anatomy,
        activation=wish.activation,
        heat_map_output=edited.outputs[1].name if edited.heat_map else "",
        heat_map_method=edited.heat_map,
        modalities=wish.modalities,
        body_parts=() if "ANY" in wish.body_parts else parts,
        template=wish.template,
        not_looked_at=(NOT_LOOKED_AT,),
        preparation=described.preparation,
    )


def _try_out(folder: Path) -> None:
    """Load it as a study would, and look at what it says of noise."""
    card = load_manifest(folder).card
    handler_of(card)
    model = open_model(replace(card, device="cpu"), folder, threads=1)
    preparation = card.preparation
    assert preparation is not None  # noqa: S101  handler_of has seen it
    values = np.random.default_rng(0).random(preparation.size, np.float32)
    output = raw_outputs(model, values, preparation)[card.outputs[0].name]
    if card.task == "classification":
        class_scores(card, output)
    elif card.task == "segmentation":
        plane_scores(card, output, preparation)
    else:
        boxes_of(card, output)


def _draft_template(card: ModelCard, wish: Wish, templates: Path, working: Path) -> Path | None:
    """Draft a report template in a folder of its own, unless one is there or was named."""
    if card.template or (templates / f"{card.name}.toml").exists():
        return None
    path = working / "drafted" / f"{card.name}.toml"
    path.parent.mkdir()
    path.write_text(template_words(card, wish.labels_zh), encoding="utf-8")
    return path
