"""TorchScript runs as its card says, and no pickle is ever opened."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.domain.findings import Status
from node.errors import ConfigError, ModelError, ModelHashError, ModelOutputError
from node.infer import infer
from node.infer.loaded import LoadedModel
from node.infer.models import load_manifest
from node.infer.session import open_model
from node.settings import InferSettings
from node.store.analyses import load_analysis
from tests.unit.infer.backends.cards import write_torch_model
from tests.unit.infer.sites import assignment_for, write_handler, write_study

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")


class Program(torch.nn.Module):
    """A network that is no more than a function."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


def script_of(function: Callable[[Any], Any]) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(Program(function), torch.ones(1, 2), strict=False, check_trace=False), content)
    return content.getvalue()


def opened(tmp_path: Path, content: bytes, **more: Any) -> LoadedModel:
    folder = write_torch_model(tmp_path, content, **more)
    return open_model(load_manifest(folder).card, folder, threads=1)


ONES = np.ones((3, 2), np.float32)


def test_a_torchscript_model_gives_its_output(tmp_path: Path) -> None:
    model = opened(tmp_path, script_of(lambda x: x * 2))
    output = model.run(ONES)
    assert output.dtype == np.float32
    assert output.tolist() == [[2.0, 2.0]] * 3
    assert output.flags.writeable
    assert model.device == "CPU"


FIRST_OUTPUT_Z = '[[outputs]]\nname = "z"\nshape = [-1, 2]'  # the card then names z and y


@pytest.mark.parametrize("function", [lambda x: (x * 0, x + 1), lambda x: {"y": x + 1, "z": x * 0}])
def test_several_outputs_have_their_own_names_or_the_cards_in_order(
    tmp_path: Path, function: Callable[[Any], Any]
) -> None:
    found = opened(tmp_path, script_of(function), more=FIRST_OUTPUT_Z).run_all({"x": ONES})
    assert {name: output.max() for name, output in found.items()} == {"z": 0.0, "y": 2.0}


def test_fewer_outputs_than_the_card_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelOutputError, match="expected 2 outputs, found 1"):
        opened(tmp_path, script_of(lambda x: x), more=FIRST_OUTPUT_Z).run(ONES)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda x: torch.log(x - 2), "not finite"),
        (lambda x: x.double(), "expected float32, found torch.float64"),
        (lambda x: x.bfloat16(), "expected float32, found torch.bfloat16"),
        (lambda x: x[:, :1], r"expected shape \[-1, 2\], found \[3, 1\]"),
        (lambda x: x[:0], "is empty"),
        (lambda x: {"w": x}, "missing y"),
    ],
)
def test_what_the_card_does_not_name_is_refused_as_with_onnx(
    tmp_path: Path, function: Callable[[Any], Any], complaint: str
) -> None:
    with pytest.raises(ModelOutputError, match=complaint):
        opened(tmp_path, script_of(function)).run(ONES)


def test_an_input_of_another_name_than_the_files_is_refused(tmp_path: Path) -> None:
    folder = write_torch_model(tmp_path, script_of(lambda x: x))
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('name = "x"', 'name = "image"'), encoding="utf-8")
    with pytest.raises(ModelError, match="the card's inputs are image, the file's x"):
        open_model(load_manifest(folder).card, folder, threads=1)


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "was here")


def pickles(path: Path) -> list[bytes]:
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"w": Intruder(path)}, zipped)
    torch.save({"w": Intruder(path)}, legacy, _use_new_zipfile_serialization=False)
    return [zipped.getvalue(), legacy.getvalue(), pickle.dumps(Intruder(path))]


def test_a_pickle_is_refused_with_the_reason_and_never_run(tmp_path: Path) -> None:
    path = tmp_path / "intruder"
    for content in pickles(path):
        with pytest.raises(ModelError, match=r"A pickle \(torch.save\) is never opened"):
            opened(tmp_path, content)
        with pytest.raises(ModelError, match="safetensors"):
            opened(tmp_path, content, file="model.safetensors", more='architecture = "unet"')
    assert not path.exists()


def test_a_damaged_torchscript_file_is_refused(tmp_path: Path) -> None:
    content = script_of(lambda x: x * 2)
    with pytest.raises(ModelError, match="no TorchScript"):
        opened(tmp_path, content[: len(content) // 2])
    damaged = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(damaged, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, b"no code" if name.endswith(".py") else whole.read(name))
    with pytest.raises(ModelError, match="PyTorch refused the model"):
        opened(tmp_path, damaged.getvalue())


def test_a_changed_file_is_never_opened(tmp_path: Path) -> None:
    folder = write_torch_model(tmp_path, script_of(lambda x: x * 2))
    card = load_manifest(folder).card
    (folder / "model.pt").write_bytes(script_of(lambda x: x * 3))
    with pytest.raises(ModelHashError):
        open_model(card, folder, threads=1)


def test_cuda_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    folder = write_torch_model(tmp_path, script_of(lambda x: x))
    for device in ("cuda", "tensorrt"):
        with pytest.raises(ConfigError, match=f"the device {device} was asked for"):
            open_model(load_manifest(folder).card, folder, threads=1, device=device)


def test_memory_that_is_not_there_is_no_fault_of_the_model(tmp_path: Path) -> None:
    takes_no_batches = ([-1, 2], [2, 2])  # else half of it would be tried, and so on until there is room
    model = opened(tmp_path, script_of(lambda x: torch.outer(x[:, 0], x[:, 0])), shapes=takes_no_batches)
    with pytest.raises(MemoryError, match="PyTorch could not allocate memory"):
        model.run(np.ones((8_000_000, 2), np.float32))  # 256 TB, more than there are addresses


def test_a_handler_reads_with_torch_in_a_child_with_bounded_memory(tmp_path: Path) -> None:
    write_torch_model(tmp_path, script_of(lambda x: x * 2))
    body = """
    import numpy as np
    from node.api import NotEvaluableError
    raise NotEvaluableError(f"it gave {models['tiny'].run(np.ones((1, 2), np.float32)).tolist()}")
    """
    write_handler(tmp_path, "h", body, models=("tiny",))
    settings = InferSettings(max_time_s=60.0, max_memory_mb=4096, threads=1)
    study = write_study(tmp_path / "study")
    folder = infer(assignment_for("h"), study, site=tmp_path, folder=tmp_path / "out" / "a", settings=settings)
    analysis = load_analysis(folder)
    assert (analysis.status, analysis.reason) == (Status.NOT_EVALUABLE, "it gave [[2.0, 2.0]]")
    assert analysis.algorithm.weights_sha256 == load_manifest(tmp_path / "models" / "tiny").card.sha256
