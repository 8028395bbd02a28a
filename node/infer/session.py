"""Open a model with the backend that its card names, on the device that site and card allow."""

import importlib
import importlib.metadata
from pathlib import Path

from node.domain.models import ModelCard
from node.errors import ConfigError
from node.infer.backends import onnx
from node.infer.backends.onnx import check_onnxruntime
from node.infer.loaded import LoadedModel
from node.infer.models import read_model

__all__ = ["check_onnxruntime", "may_use_gpu", "open_model"]

BACKENDS = {"torch": "wetread[torch]", "kserve": "wetread[kserve]"}  # besides onnx, with what brings them


NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def open_model(
    card: ModelCard, folder: Path, *, threads: int, device: str = "auto", time_limit_s: float = 600.0
) -> LoadedModel:
    """Load a model whose file is the one its card names.

    Parameters
    ----------
    folder
        The model's own folder, ``models/<name>``.
    threads
        Most threads one run may use.
    device
        ``auto``, ``cpu``, ``cuda`` or ``tensorrt``, as the site says; the card may narrow it.
    time_limit_s
        How long a study may take at most, which a model server is told.

    Raises
    ------
    ModelError, ModelHashError
        If the file is missing, not the one in the card, no model, or has other inputs or outputs; or the server of
        the model does not answer, or has no such model.
    ConfigError
        If the backend is not installed, or a device was asked for that is not there.
    """
    asked = _device(card, device)
    if card.backend == "onnx":
        return onnx.open(card, folder, read_model(card, folder), threads=threads, device=asked)
    if card.backend not in BACKENDS:
        raise ConfigError(f"{card.name}: the backend must be onnx, {' or '.join(BACKENDS)}, found {card.backend!r}")
    try:
        backend = importlib.import_module(f"node.infer.backends.{card.backend}")
    except ImportError as error:
        extra = BACKENDS[card.backend]
        raise ConfigError(f"{card.name}: the backend {card.backend} is not installed; install {extra}") from error
    model: LoadedModel
    if card.backend == "kserve":
        model = backend.open(card, time_limit_s=time_limit_s)
    else:
        model = backend.open(card, folder, read_model(card, folder), threads=threads, device=asked)
    return model


def may_use_gpu(device: str) -> bool:
    """True if a model may end up on a GPU, whose driver reserves more addresses than any memory limit."""
    if device == "cpu":
        return False
    has_torch = any(True for _ in importlib.metadata.distributions(name="torch"))
    return onnx.may_use_gpu(device) or (has_torch and NVIDIA_DRIVER.exists())


def _device(card: ModelCard, device: str) -> str:
    """What card and site ask for together.

    Raises
    ------
    ConfigError
        If the card needs a GPU and the site forbids it.
    """
    if card.device == "auto":
        return device
    if card.device == "cuda" and device == "cpu":
        raise ConfigError(f'{card.name}: its card needs cuda, but the site says [infer] device = "cpu"')
    return device if card.device == "cuda" and device == "tensorrt" else card.device
