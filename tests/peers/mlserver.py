"""MLServer as the second model server of the test suite; in an environment of its own, its packages exclude ours."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.modality import free_port, wait_until_open

__all__ = ["mlserver"]

PROGRAM = Path(sys.prefix) / "peers" / "mlserver" / "bin" / "mlserver"  # tools/model_servers.sh puts it there
TENSORS = {"inputs": ["x"], "outputs": ["y"]}
PROGRAM_TEXT = """
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput

class Doubling(MLModel):
    async def predict(self, payload):
        (x,) = payload.inputs
        y = ResponseOutput(name="y", shape=x.shape, datatype="FP32", data=[2 * value for value in x.data])
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[y])
"""


@contextlib.contextmanager
def mlserver(folder: Path) -> Iterator[str]:
    """Run MLServer with the model ``double``, version 3; give its address, or skip where it is not installed."""
    if not PROGRAM.exists():
        pytest.skip("MLServer is not installed (tools/model_servers.sh)")
    model = folder / "double"
    model.mkdir(parents=True)
    (model / "doubling.py").write_text(PROGRAM_TEXT, encoding="utf-8")
    tensors = {
        role: [{"name": n, "datatype": "FP32", "shape": [-1, 2]} for n in names] for role, names in TENSORS.items()
    }
    settings = {"name": "double", "implementation": "doubling.Doubling", "parameters": {"version": "3"}, **tensors}
    (model / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    port = free_port()
    ports = {"grpc_port": port, "http_port": free_port(), "metrics_port": free_port()}
    server = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports}
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    with (folder / "mlserver.log").open("wb") as log:
        process = subprocess.Popen([str(PROGRAM), "start", str(folder)], stdout=log, stderr=log, cwd=model)
    try:
        wait_until_open(port, process, limit_s=60.0)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
