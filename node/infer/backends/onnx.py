"""onnxruntime, on the processor or on an NVIDIA card by CUDA or TensorRT.

onnxruntime is optional (the builds for CPU and GPU exclude each other), so it is looked up when the first model is
opened, after a check that exactly one build is there. The GPU build goes on with the processor in silence when it finds
no card or no library, so a session is asked what it really has. The paths to CUDA and TensorRT are tested with
stand-ins only: they never ran on a GPU.
"""

import importlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from node.domain.models import ModelCard
from node.errors import ConfigError
from node.infer.loaded import LoadedModel, Run, Tensors, check_tensors
from node.infer.memory import raise_ours, within_memory
from node.infer.models import read_model

__all__ = ["check_onnxruntime", "may_use_gpu", "open"]

CPU_BUILD, GPU_BUILD = "onnxruntime", "onnxruntime-gpu"
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
# Full single precision, as on the processor; memory is taken as it is needed, others may use the card as well. TensorRT
# keeps no engines between starts: an engine is code that no card's SHA-256 stands for.
CUDA_OPTIONS = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
ERRORS_ONLY = 3


def open(  # noqa: A001  as in every backend
    card: ModelCard, folder: Path, content: bytes, *, threads: int, device: str
) -> LoadedModel:
    """Load a model into a session.

    Parameters
    ----------
    content
        The model's file, its hash checked.
    threads
        Most threads one run may use.
    device
        ``auto`` (CUDA if it is there), ``cpu``, ``cuda`` or ``tensorrt`` (which takes CUDA where it cannot help).

    Raises
    ------
    ModelError
        If it is no ONNX model or has other inputs or outputs than its card.
    ConfigError
        If not exactly one build of onnxruntime is installed, or a device was asked for that is not there.
    """
    runtime = _runtime()
    session = _session(runtime, card, content, threads=threads, device=device)
    check_tensors(card, "input", card.inputs, _shapes(session.get_inputs()), source="the file")
    check_tensors(card, "output", card.outputs, _shapes(session.get_outputs()), source="the file")
    kind = _kind(session.get_providers())

    def open_on_processor() -> Run:
        again = read_model(card, folder)
        return _run_of(_session(runtime, card, again, threads=threads, device="cpu"), card.name)

    return within_memory(LoadedModel(card, _run_of(session, card.name)), kind, open_on_processor)


def check_onnxruntime(device: str = "auto") -> None:
    """Make sure that exactly one build of onnxruntime is installed, two break each other in silence; and the right one.

    Raises
    ------
    ConfigError
        If both or none are there, or a GPU is asked of the build without.
    """
    found = _builds()
    if len(found) > 1:
        raise ConfigError(f"{' and '.join(found)} are installed and break each other; uninstall both, then install one")
    if not found:
        raise ConfigError("no onnxruntime is installed; install wetread[cpu] or wetread[gpu]")
    if device in ("cuda", "tensorrt") and found != [GPU_BUILD]:
        raise ConfigError(f"the device {device} was asked for, but {CPU_BUILD} has none; install wetread[gpu] instead")


def may_use_gpu(device: str) -> bool:
    """True if a session may end up on a GPU, whose driver reserves more addresses than any memory limit."""
    return device != "cpu" and GPU_BUILD in _builds()


def _builds() -> list[str]:
    return [name for name in (CPU_BUILD, GPU_BUILD) if any(True for _ in importlib.metadata.distributions(name=name))]


def _runtime() -> ModuleType:
    check_onnxruntime()
    runtime = importlib.import_module("onnxruntime")
    runtime.disable_telemetry_events()
    return runtime


def _session(runtime: ModuleType, card: ModelCard, content: bytes, *, threads: int, device: str) -> Any:
    providers = _providers(runtime.get_available_providers(), device, card.name)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Waiting threads that spin take the cores from receiving: 1.8 to 2 times slower when cores are shared.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = runtime.InferenceSession(content, options, providers=providers)
    except RuntimeError as error:
        raise_ours(error, CPU_BUILD, card.name)
    except _errors() as error:
        raise_ours(error, CPU_BUILD, card.name)
    session.disable_fallback()  # it would go on with the processor, and say nothing
    found, wanted = session.get_providers(), [_name(one) for one in providers]
    if device in ("cuda", "tensorrt") and wanted[0] not in found:
        raise ConfigError(
            f"{card.name}: the device {device} was asked for, but the session has only {', '.join(found)}: "
            "is the driver there, and do the CUDA and cuDNN libraries fit the build?"
        )
    return session


def _providers(available: Sequence[str], device: str, name: str) -> list[Any]:
    """Providers in the order in which a session tries them; the processor takes what no other can.

    Raises
    ------
    ConfigError
        If a device was asked for that this build does not know.
    """
    cuda = (CUDA, CUDA_OPTIONS)
    wanted: dict[str, list[Any]] = {
        "cpu": [],
        "auto": [cuda] if CUDA in available else [],
        "cuda": [cuda],
        "tensorrt": [TENSORRT, cuda],
    }
    if device not in wanted:
        raise ConfigError(f"{name}: the device must be one of {', '.join(wanted)}, found {device!r}")
    for provider in wanted[device]:
        if _name(provider) not in available:
            raise ConfigError(
                f"{name}: the device {device} was asked for, but this onnxruntime offers only {', '.join(available)}"
            )
    return [*wanted[device], CPU]


def _name(provider: str | tuple[str, dict[str, str]]) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _kind(providers: Sequence[str]) -> str:
    """What a session runs on, in the word that stands on the results."""
    return {TENSORRT: "TensorRT", CUDA: "CUDA"}.get(providers[0], "CPU")


def _shapes(nodes: Sequence[Any]) -> dict[str, Sequence[object]]:
    return {node.name: node.shape for node in nodes}


def _run_of(session: Any, name: str) -> Run:
    def run(inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        try:
            outputs: Sequence[object] = session.run(list(names), dict(inputs))
        except RuntimeError as error:
            raise_ours(error, CPU_BUILD, name)
        except _errors() as error:
            raise_ours(error, CPU_BUILD, name)
        return outputs

    return run


def _errors() -> tuple[type[Exception], ...]:
    """Every error of onnxruntime; they have no common base of their own."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
