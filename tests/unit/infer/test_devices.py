"""A GPU is used where it is there, and missed loudly where it was asked for."""

import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from node.domain.work import Priority
from node.errors import ConfigError
from node.infer.backends import onnx
from node.infer.child import open_models
from node.infer.handlers import load_handler
from node.infer.job import Opening
from node.infer.loaded import LoadedModel
from node.infer.models import load_manifest
from node.infer.session import check_onnxruntime, open_model
from tests.unit.infer.sites import doubling_model, write_handler, write_model
from tests.unit.infer.stand_in import CPU, CUDA, TENSORRT, StandIn
from tests.unit.infer.test_session import install

GPU_BUILD = (TENSORRT, CUDA, CPU)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path, "tiny", doubling_model())


def opened(folder: Path, runtime: StandIn, monkeypatch: pytest.MonkeyPatch, device: str, card: str = "") -> LoadedModel:
    manifest = folder / "model.toml"
    if card:
        manifest.write_text(f'device = "{card}"\n' + manifest.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(onnx, "_runtime", lambda: runtime)
    return open_model(load_manifest(folder).card, folder, threads=1, device=device)


@pytest.mark.parametrize(
    ("device", "card", "works", "kind"),
    [
        ("auto", "", GPU_BUILD, "CUDA"),
        ("auto", "", (CPU,), "CPU"),
        ("cuda", "", GPU_BUILD, "CUDA"),
        ("tensorrt", "", GPU_BUILD, "TensorRT"),
        ("cpu", "", GPU_BUILD, "CPU"),
        ("cuda", "cpu", GPU_BUILD, "CPU"),
        ("auto", "cuda", GPU_BUILD, "CUDA"),
        ("tensorrt", "cuda", GPU_BUILD, "TensorRT"),
    ],
)
def test_site_and_card_say_where_a_model_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, device: str, card: str, works: tuple[str, ...], kind: str
) -> None:
    runtime = StandIn(GPU_BUILD, works)
    model = opened(folder, runtime, monkeypatch, device, card)
    assert model.device == kind
    assert model.run(np.ones((3, 2), np.float32)).tolist() == [[2.0, 2.0]] * 3
    (session,) = runtime.sessions
    assert session.asked[-1] == CPU  # takes what the GPU cannot
    assert not session.falls_back
    spinning = {key: value for key, value in session.options.entries.items() if "spinning" in key}
    assert list(spinning.values()) == ["0", "0"]


@pytest.mark.parametrize(("device", "card"), [("cuda", ""), ("tensorrt", ""), ("auto", "cuda")])
def test_a_gpu_build_that_falls_back_to_the_processor_in_silence_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str, card: str
) -> None:
    with pytest.raises(ConfigError, match="was asked for, but the session has only CPUExecutionProvider"):
        opened(folder, StandIn(GPU_BUILD, (CPU,)), monkeypatch, device, card)


def test_tensorrt_that_does_not_work_is_refused_though_cuda_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="the device tensorrt was asked for"):
        opened(folder, StandIn(GPU_BUILD, (CUDA, CPU)), monkeypatch, "tensorrt")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_build_without_the_provider_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    with pytest.raises(ConfigError, match="this onnxruntime offers only CPUExecutionProvider"):
        opened(folder, StandIn((CPU,), (CPU,)), monkeypatch, device)


def test_the_real_build_without_a_gpu_says_so(folder: Path) -> None:
    with pytest.raises(ConfigError, match="the device cuda was asked for, but this onnxruntime offers only"):
        open_model(load_manifest(folder).card, folder, threads=1, device="cuda")
    assert open_model(load_manifest(folder).card, folder, threads=1, device="auto").device == "CPU"


def test_a_card_that_needs_a_gpu_and_a_site_that_forbids_it_contradict(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r'its card needs cuda, but the site says \[infer\] device = "cpu"'):
        opened(folder, StandIn(GPU_BUILD, GPU_BUILD), monkeypatch, "cpu", "cuda")


def test_a_full_gpu_has_half_the_batch_and_then_the_processor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = StandIn(GPU_BUILD, GPU_BUILD, room=2)
    model = opened(folder, runtime, monkeypatch, "cuda")
    tensor = np.arange(16, dtype=np.float32).reshape(8, 2)
    assert np.array_equal(model.run(tensor), tensor * 2)
    assert runtime.sessions[0].rows == [8, 4, 2, 2, 2, 2]
    assert model.device == "CUDA"
    runtime.room = 0
    assert np.array_equal(model.run(tensor[:1]), tensor[:1] * 2)
    assert runtime.sessions[1].providers == [CPU]
    assert model.device == "CUDA, CPU"  # as it stands on the results


def test_the_start_is_refused_where_the_build_cannot_have_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "onnxruntime")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    check_onnxruntime("auto")
    with pytest.raises(ConfigError, match=r"the device cuda was asked for, .* install wetread\[gpu\]"):
        check_onnxruntime("cuda")


@pytest.mark.parametrize(("backend", "extra"), [("kserve", "kserve"), ("torch", "torch")])
def test_a_backend_that_is_not_installed_is_named_with_what_brings_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, backend: str, extra: str
) -> None:
    card = replace(load_manifest(folder).card, backend=backend)
    monkeypatch.setitem(sys.modules, f"node.infer.backends.{backend}", None)
    with pytest.raises(ConfigError, match=rf"the backend {backend} is not installed; install wetread\[{extra}\]"):
        open_model(card, folder, threads=1)
    with pytest.raises(ConfigError, match="the backend must be onnx"):
        open_model(replace(card, backend="pickle"), folder, threads=1)


def test_in_a_shared_child_the_requests_of_two_studies_are_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_model(tmp_path, "tiny", doubling_model()) / "model.toml"
    wishes = "preferred_batches = [2]\nlatest_start_ms = 1000\n"
    manifest.write_text(wishes + manifest.read_text(encoding="utf-8"), encoding="utf-8")
    runtime = StandIn(GPU_BUILD, GPU_BUILD)
    monkeypatch.setattr(onnx, "_runtime", lambda: runtime)
    write_handler(tmp_path, "h", models=("tiny",))
    opening = Opening("h", tmp_path, threads=1, device="cuda", memory_limit_mb=4096, together=2)
    give = open_models(opening, load_handler(tmp_path / "handlers", "h"), clock=lambda: 0.0)  # nothing is ever due
    found: dict[float, float] = {}

    def read(value: float) -> None:
        found[value] = float(give(Priority.ROUTINE)["tiny"].run(np.full((1, 2), value, np.float32))[0, 0])

    studies = [threading.Thread(target=read, args=(value,)) for value in (1.0, 2.0)]
    for study in studies:
        study.start()
    for study in studies:
        study.join()
    assert found == {1.0: 2.0, 2.0: 4.0}
    assert runtime.sessions[0].rows == [2]
