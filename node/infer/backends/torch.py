"""PyTorch, for networks that cannot be turned into ONNX: TorchScript, or plain weights of an architecture of ours.

Never a pickle: that is a program, which runs when it is opened, and a hash only says whose program it is. The path to a
GPU never ran on one.
"""

import importlib
import io
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from node.domain.models import ModelCard
from node.errors import ConfigError, ModelError, ModelOutputError
from node.infer.backends.unet import unet
from node.infer.loaded import LoadedModel, Run, Tensors
from node.infer.memory import raise_ours, within_memory
from node.infer.models import read_model

# Looked up like this because it is optional; `node.infer.session` says what to install where it is missing.
torch: Any = importlib.import_module("torch")
safetensors: Any = importlib.import_module("safetensors")
safetensors_torch: Any = importlib.import_module("safetensors.torch")

__all__ = ["open"]

ARCHITECTURES = {"unet": unet}


def open(  # noqa: A001  as in every backend
    card: ModelCard, folder: Path, content: bytes, *, threads: int, device: str
) -> LoadedModel:
    """Load a network.

    Parameters
    ----------
    content
        The model's file, its hash checked: TorchScript, or safetensors if the card names an architecture.
    threads
        Most threads one run may use.
    device
        ``auto`` (CUDA if it is there), ``cpu``, ``cuda`` or ``tensorrt`` (which is CUDA here).

    Raises
    ------
    ModelError
        If it is a pickle, neither of the two, or does not fit its card.
    ConfigError
        If a device was asked for that is not there.
    """
    torch.set_num_threads(threads)
    place = _place(card, device)
    run = _run_of(card, _network(card, content, place), place)

    def open_on_processor() -> Run:
        return _run_of(card, _network(card, read_model(card, folder), "cpu"), "cpu")

    return within_memory(LoadedModel(card, run), "CPU" if place == "cpu" else "CUDA", open_on_processor)


def _place(card: ModelCard, device: str) -> str:
    if device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        # Full single precision, as on the processor and as with onnxruntime.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        return "cuda"
    if device != "auto":
        raise ConfigError(f"{card.name}: the device {device} was asked for, but this PyTorch finds no CUDA")
    return "cpu"


def _network(card: ModelCard, content: bytes, place: str) -> Any:
    if card.architecture:
        return _from_weights(card, content, place)
    _refuse_pickle(card.name, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is frozen, not gone
            network = torch.jit.load(io.BytesIO(content), map_location=place).eval()
    except RuntimeError as error:
        raise_ours(error, "PyTorch", card.name)
    found = [argument.name for argument in network.forward.schema.arguments[1:]]
    wanted = [tensor.name for tensor in card.inputs]
    if found != wanted:
        raise ModelError(f"{card.name}: the card's inputs are {', '.join(wanted)}, the file's {', '.join(found)}")
    return network


def _refuse_pickle(name: str, content: bytes) -> None:
    """TorchScript is an archive with a folder of code; whatever else ``torch.save`` writes is a pickle."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            has_code = any("/code/" in member for member in archive.namelist())
    except zipfile.BadZipFile:
        has_code = False
    if not has_code:
        raise ModelError(
            f"{name}: the file is no TorchScript. A pickle (torch.save) is never opened, because opening it runs the "
            "program inside; save it with torch.jit.save, or its weights as .safetensors with an architecture"
        )


def _from_weights(card: ModelCard, content: bytes, place: str) -> Any:
    try:
        weights = safetensors_torch.load(content)
    except safetensors.SafetensorError as error:
        raise_ours(error, "safetensors", card.name)
    if card.architecture not in ARCHITECTURES:
        raise ConfigError(f"{card.name}: the architecture must be one of {', '.join(ARCHITECTURES)}")
    placed = {name: tensor.to(place) for name, tensor in weights.items()}
    return ARCHITECTURES[card.architecture](card, placed)


def _run_of(card: ModelCard, network: Any, place: str) -> Run:
    order = [tensor.name for tensor in card.inputs]
    outputs = [tensor.name for tensor in card.outputs]

    def run(inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        try:
            given = [torch.tensor(inputs[name], device=place) for name in order if name in inputs]
            with torch.inference_mode():
                found = _named(card.name, outputs, network(*given))
                return [_as_array(card.name, name, found[name]) for name in names]
        except (RuntimeError, ValueError) as error:
            raise_ours(error, "PyTorch", card.name)

    return run


def _named(name: str, outputs: Sequence[str], found: Any) -> Mapping[str, Any]:
    """What a network gave, by the names of the card: one tensor, several in the card's order, or some with names."""
    if isinstance(found, dict):
        missing = [output for output in outputs if output not in found]
        if missing:
            raise ModelOutputError(f"{name}: expected the outputs {', '.join(outputs)}, missing {', '.join(missing)}")
        return found
    several = list(found) if isinstance(found, tuple | list) else [found]
    if len(several) < len(outputs):
        raise ModelOutputError(f"{name}: expected {len(outputs)} outputs, found {len(several)}")
    return dict(zip(outputs, several, strict=False))


def _as_array(name: str, output: str, value: Any) -> object:
    if not torch.is_tensor(value) or value.dtype != torch.float32:
        kind = getattr(value, "dtype", type(value).__name__)
        raise ModelOutputError(f"{name}: output {output}: expected float32, found {kind}")
    return np.asarray(value.cpu().numpy())
