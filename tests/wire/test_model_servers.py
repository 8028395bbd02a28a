"""Models on real servers: Triton and MLServer run them as their cards say, or it is an error that says why."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from node.domain.findings import Status
from node.domain.models import ModelCard
from node.errors import ModelError, ModelOutputError
from node.infer import infer
from node.infer.loaded import LoadedModel
from node.infer.models import load_manifest
from node.infer.session import open_model
from node.settings import InferSettings
from node.store.analyses import load_analysis
from tests.peers.mlserver import mlserver
from tests.peers.modality import free_port
from tests.peers.triton import triton
from tests.unit.infer.sites import assignment_for, write_handler, write_study

pytestmark = pytest.mark.peer
pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed (wetread[kserve])")

MANIFEST = """
name = "remote"
version = "7.1"
manufacturer = "Physics"
backend = "kserve"
url = "{url}"
served_name = "double"
served_version = "{version}"
is_unverified = true
file = ""
sha256 = ""
licence = "MIT"
purpose = "doubles what it is given"
population = "phantoms"
limits = ["knows phantoms only", "its weights are on a server and not compared with a hash"]
not_for = ["patients"]
threshold = 0.5

[[inputs]]
name = "x"
shape = [-1, 2]

[[outputs]]
name = "y"
shape = [-1, 2]
"""
MODELS = {
    "double": "x * 2",
    "logarithm": "np.log(x)",
    "narrow": "x[:, :1]",
    "late": "threading.Event().wait()",
}
ONES = np.ones((3, 2), np.float32)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with triton(tmp_path_factory.mktemp("triton"), MODELS) as address:
        yield address


def write_served_model(site: Path, url: str, version: str = "1") -> Path:
    folder = site / "models" / "remote"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(MANIFEST.format(url=url, version=version), encoding="utf-8")
    return folder


def card_for(tmp_path: Path, url: str, version: str = "1") -> ModelCard:
    return load_manifest(write_served_model(tmp_path, url, version)).card


def opened(card: ModelCard, tmp_path: Path, time_limit_s: float = 60.0) -> LoadedModel:
    return open_model(card, tmp_path, threads=1, time_limit_s=time_limit_s)


def test_triton_runs_a_model_and_the_results_name_it(tmp_path: Path, url: str) -> None:
    write_served_model(tmp_path, url)
    body = """
    import numpy as np
    from node.api import NotEvaluableError
    raise NotEvaluableError(f"it gave {models['remote'].run(np.full((1, 2), 3, np.float32)).tolist()}")
    """
    write_handler(tmp_path, "h", body, models=("remote",))
    settings = InferSettings(max_time_s=60.0, max_memory_mb=4096, threads=1)
    study = write_study(tmp_path / "study")
    folder = infer(assignment_for("h"), study, site=tmp_path, folder=tmp_path / "out" / "a", settings=settings)
    analysis = load_analysis(folder)
    assert (analysis.status, analysis.reason) == (Status.NOT_EVALUABLE, "it gave [[6.0, 6.0]]")
    algorithm = analysis.algorithm
    assert algorithm.device.startswith("KServe triton 2.")
    assert algorithm.weights_sha256 == ""
    assert dict(algorithm.parameters) == {
        "threshold": "0.5",
        "model server": url,
        "served model": "double version 1",
        "weights": "on the server, not compared with a hash",
    }


def test_mlserver_runs_a_model(tmp_path: Path) -> None:
    with mlserver(tmp_path / "mlserver") as address:
        model = opened(card_for(tmp_path, address, version="3"), tmp_path)
        assert model.device == "KServe mlserver 1.7.1"
        output = model.run(ONES)
        assert output.tolist() == [[2.0, 2.0]] * 3
        assert output.flags.writeable
        # MLServer tells no versions beforehand; one that is not there is found out when it is asked for.
        with pytest.raises(ModelError, match="version"):
            opened(replace(model.card, served_version="4"), tmp_path).run(ONES)


def test_what_the_card_does_not_name_is_refused_as_with_onnx(tmp_path: Path, url: str) -> None:
    card = card_for(tmp_path, url)
    with pytest.raises(ModelOutputError, match="output y: 6 of 6 are not finite"):
        opened(replace(card, served_name="logarithm"), tmp_path).run(-ONES * np.inf)
    with pytest.raises(ModelOutputError, match=r"output y: expected shape \[-1, 2\], found \[3, 1\]"):
        opened(replace(card, served_name="narrow"), tmp_path).run(ONES)


def test_a_server_that_is_late_is_not_waited_for_longer_than_the_study_may_take(tmp_path: Path, url: str) -> None:
    model = opened(replace(card_for(tmp_path, url), served_name="late"), tmp_path, time_limit_s=0.5)
    with pytest.raises(ModelError, match=r"did not answer within 0\.45 s"):
        model.run(ONES)


def test_other_tensors_on_the_server_than_in_the_card_are_refused(tmp_path: Path, url: str) -> None:
    card = card_for(tmp_path, url)
    (given,) = card.inputs
    for inputs, complaint in (
        ((replace(given, name="image"),), "the card's input 'image' is not in the server"),
        ((replace(given, shape=(-1, 3)),), r"input x: the card says \[-1, 3\], the server .* \[-1, 2\]"),
        ((given, given), "the card names 2 inputs, the server .* has 1"),
    ):
        with pytest.raises(ModelError, match=complaint):
            opened(replace(card, inputs=inputs), tmp_path)


def test_a_model_version_or_server_that_is_not_there_is_said(tmp_path: Path, url: str) -> None:
    card = card_for(tmp_path, url)
    with pytest.raises(ModelError, match="has no nothing version 1"):
        opened(replace(card, served_name="nothing"), tmp_path)
    with pytest.raises(ModelError, match="has no double version 2"):
        opened(replace(card, served_version="2"), tmp_path)
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(ModelError, match=f"no server answers at {nobody}"):
        opened(replace(card, url=nobody), tmp_path)
