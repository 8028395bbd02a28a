"""A model ready to run: an onnxruntime session that is asked for nothing but what its card says.

onnxruntime is optional (the builds for CPU and GPU exclude each other), so it is looked up when the
first model is opened, after a check that exactly one build is there.
"""

import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from node.domain.models import ModelCard, Tensor
from node.errors import ConfigError, ModelError, ModelOutputError
from node.infer.models import read_model

__all__ = ["OnnxModel", "check_onnxruntime", "open_model"]

BUILDS = ("onnxruntime", "onnxruntime-gpu")
CPU_PROVIDER = "CPUExecutionProvider"
ERRORS_ONLY = 3
OUT_OF_MEMORY = ("bad_alloc", "allocate memory", "bad allocation")


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A `node.api.Model` behind an onnxruntime session on the CPU."""

    card: ModelCard
    session: Any
    device: str = "CPU"

    def run(self, tensor: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run the model once: its first input in, its first output back.

        Raises
        ------
        ModelError
            If the input is not ``float32`` of the shape in the card.
        ModelOutputError
            If the output is empty, not finite or not of the shape in the card.
        MemoryError
            If the limit of the process is reached.
        """
        expected = self.card.inputs[0]
        if tensor.dtype != np.float32 or not _fits(tensor.shape, expected.shape):
            raise ModelError(
                f"{self.card.name}: input {expected.name}: expected float32{list(expected.shape)}, "
                f"found {tensor.dtype}{list(tensor.shape)}"
            )
        try:
            (output,) = self.session.run([self.card.outputs[0].name], {expected.name: np.ascontiguousarray(tensor)})
        except RuntimeError as error:
            _raise_from(error, self.card.name)
        except _errors() as error:
            _raise_from(error, self.card.name)
        return self._checked(output)

    def _checked(self, output: object) -> npt.NDArray[np.float32]:
        expected = self.card.outputs[0]
        where = f"{self.card.name}: output {expected.name}"
        if not isinstance(output, np.ndarray) or output.dtype != np.float32:
            raise ModelOutputError(
                f"{where}: expected float32, found {getattr(output, 'dtype', type(output).__name__)}"
            )
        if output.size == 0:
            raise ModelOutputError(f"{where} is empty")
        if not _fits(output.shape, expected.shape):
            raise ModelOutputError(f"{where}: expected shape {list(expected.shape)}, found {list(output.shape)}")
        if not np.isfinite(output).all():
            raise ModelOutputError(f"{where}: {int((~np.isfinite(output)).sum())} of {output.size} are not finite")
        return output


def open_model(card: ModelCard, folder: Path, *, threads: int) -> OnnxModel:
    """Load a model whose file is the one its card names.

    Parameters
    ----------
    folder
        The model's own folder, ``models/<name>``.
    threads
        Most threads one run may use.

    Raises
    ------
    ModelError, ModelHashError
        If the file is missing, not the one in the card, no ONNX model, or has other inputs or outputs.
    ConfigError
        If not exactly one build of onnxruntime is installed.
    """
    content = read_model(card, folder)
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Waiting threads that spin take the cores from receiving: 1.8 to 2 times slower when cores are shared.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(content, options, providers=[CPU_PROVIDER])
    except RuntimeError as error:
        _raise_from(error, card.name)
    except _errors() as error:
        _raise_from(error, card.name)
    _check_tensors(card, "input", card.inputs, session.get_inputs())
    _check_tensors(card, "output", card.outputs, session.get_outputs())
    return OnnxModel(card, session)


def check_onnxruntime() -> None:
    """Make sure that exactly one build of onnxruntime is installed: two break each other in silence.

    Raises
    ------
    ConfigError
        If both or none are there.
    """
    found = [name for name in BUILDS if any(True for _ in importlib.metadata.distributions(name=name))]
    if len(found) > 1:
        raise ConfigError(f"{' and '.join(found)} are installed and break each other; uninstall both, then install one")
    if not found:
        raise ConfigError("no onnxruntime is installed; install wetread[cpu] or wetread[gpu]")


def _runtime() -> ModuleType:
    check_onnxruntime()
    runtime = importlib.import_module("onnxruntime")
    runtime.disable_telemetry_events()
    return runtime


def _errors() -> tuple[type[Exception], ...]:
    """Every error of onnxruntime; they have no common base of their own."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _raise_from(error: Exception, name: str) -> NoReturn:
    """Its text is about the graph, but may quote values: only its type is kept."""
    if any(words in str(error) for words in OUT_OF_MEMORY):
        raise MemoryError(f"{name}: onnxruntime could not allocate memory") from error
    raise ModelError(f"{name}: onnxruntime refused the model or its input: {type(error).__name__}") from error


def _check_tensors(card: ModelCard, role: str, expected: tuple[Tensor, ...], found: list[Any]) -> None:
    shapes = {node.name: list(node.shape) for node in found}
    for tensor in expected:
        if tensor.name not in shapes:
            raise ModelError(f"{card.name}: the card's {role} {tensor.name!r} is not in the file: {', '.join(shapes)}")
        sizes = shapes[tensor.name]
        is_open = [not isinstance(size, int) for size in sizes]  # a symbolic size is a text or None
        pairs = list(zip(tensor.shape, sizes, is_open, strict=False))
        if len(sizes) != len(tensor.shape) or any(not free and size not in (-1, real) for size, real, free in pairs):
            raise ModelError(f"{card.name}: {role} {tensor.name}: the card says {list(tensor.shape)}, the file {sizes}")
    if role == "input" and len(shapes) != len(expected):
        raise ModelError(f"{card.name}: the card names {len(expected)} inputs, the file has {len(shapes)}")


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(want in (-1, size) for size, want in zip(shape, expected, strict=True))
