"""A stand-in for onnxruntime on a machine with a GPU: no GPU was at hand, so these paths never ran on one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
ORT_CUDA_OUT_OF_MEMORY = "[ONNXRuntimeError] : 6 : BFCArena::AllocateRawInternal Failed to allocate memory for 8192"


class Options:
    """Takes what a session is asked for."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@dataclass
class StandIn:
    """A runtime whose build offers some providers, of which a session really gets some; its model doubles.

    `room` is how many rows the GPU has memory for.
    """

    offers: Sequence[str]
    works: Sequence[str]
    room: int = 1000
    sessions: list["Session"] = field(default_factory=list)
    SessionOptions = Options

    def get_available_providers(self) -> list[str]:
        return list(self.offers)

    def InferenceSession(self, content: bytes, options: Options, providers: Sequence[Any]) -> "Session":
        names = [one if isinstance(one, str) else one[0] for one in providers]
        session = Session(self, [name for name in names if name in self.works], providers, options)
        self.sessions.append(session)
        return session


@dataclass
class Session:
    """What the stand-in opened."""

    runtime: StandIn
    providers: list[str]
    asked: Sequence[Any]
    options: Options
    falls_back: bool = True
    rows: list[int] = field(default_factory=list)

    def disable_fallback(self) -> None:
        self.falls_back = False

    def get_providers(self) -> list[str]:
        return self.providers

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="x", shape=["n", 2])]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="y", shape=["n", 2])]

    def run(self, names: list[str], inputs: dict[str, npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        tensor = inputs["x"]
        self.rows.append(len(tensor))
        if self.providers[0] != CPU and len(tensor) > self.runtime.room:
            raise RuntimeError(ORT_CUDA_OUT_OF_MEMORY)
        return [tensor * 2]
