"""NVIDIA's Triton with its python backend, as the model server of the test suite; on the processor."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.peers.modality import free_port, wait_until_open

__all__ = ["triton"]

PACKAGES = Path(sys.prefix) / "peers" / "triton"  # tools/model_servers.sh puts it there
PROGRAM = PACKAGES / "pytriton" / "tritonserver" / "bin" / "tritonserver"
BACKENDS = PACKAGES / "pytriton" / "tritonserver" / "backends"
STUB = BACKENDS / "python" / "triton_python_backend_stub"

CONFIGURATION = """
backend: "python"
max_batch_size: 0
version_policy: { all {} }
input [{ name: "x" data_type: TYPE_FP32 dims: [-1, 2] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1, 2] }]
"""
# Triton takes the packages of the system's Python and no PYTHONPATH; its own numpy is the one it works with.
PROGRAM_TEXT = """
import sys
import threading

sys.path.insert(0, {packages!r})
import numpy as np
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(triton.get_input_tensor_by_name(one, "x").as_numpy()) for one in requests]

    def answer(self, x):
        y = np.ascontiguousarray({function}, dtype=np.float32)
        return triton.InferenceResponse([triton.Tensor("y", y)])
"""


@contextlib.contextmanager
def triton(folder: Path, models: Mapping[str, str]) -> Iterator[str]:
    """Run Triton as long as the ``with`` block lasts and give its address; skip the test where it is not installed.

    Parameters
    ----------
    models
        What each model, version 1, makes of ``x``, as Python; ``np`` and ``threading`` are there.
    """
    if not PROGRAM.exists() or not STUB.exists():
        pytest.skip("Triton is not installed (tools/model_servers.sh)")
    program = PROGRAM_TEXT.replace("{packages!r}", repr(str(PACKAGES)))
    for name, function in models.items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(f'name: "{name}"{CONFIGURATION}', encoding="utf-8")
        (version / "model.py").write_text(program.replace("{function}", function), encoding="utf-8")
    port = free_port()
    command = [
        str(PROGRAM), f"--model-repository={folder}", f"--backend-directory={BACKENDS}",
        "--allow-http=false", "--allow-metrics=false", "--grpc-address=127.0.0.1", f"--grpc-port={port}",
        "--exit-timeout-secs=1",
    ]  # fmt: skip
    library = str(sysconfig.get_config_var("LIBDIR"))
    environment = {**os.environ, "LD_LIBRARY_PATH": library}
    with (folder / "triton.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, process_group=0)
    try:
        wait_until_open(port, process, limit_s=60.0)
        yield f"127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # with the processes of its models, one of which may hang
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
