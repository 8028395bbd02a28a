"""What the node adds to a model's own time, and what reading costs receiving, in one run: python -m bench.inference

Objects are sent to a receiver that has the machine for itself, and to one beside children that never rest. Then a
network of the size of DenseNet-121 with random weights is run on one image: by a bare session, by `Model.run`
with its checks, and by a handler in a child that stays, which is the whole: the image is compared with its digest, the
Analysis is durable. Rounds are interleaved; figures are medians and ratios.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread

from bench.receive import OURS, RECEIVERS
from bench.sender import make_objects, send
from node.domain.study import Instance, Series, Study
from node.domain.work import Assignment, Priority
from node.infer import Pool, infer
from node.infer.confine import NICENESS
from node.infer.models import load_manifest
from node.infer.session import open_model
from node.settings import InferSettings
from node.store.digest import dataset_digest

SETTINGS = InferSettings(device="cpu")
SIZE, CHANNELS, LAYERS = 224, 64, 3
HANDLER = """
import numpy as np
from node.api import Basis, Handler, Reading, Terms

def analyse(study, models):
    tensor = np.zeros((1, 3, {size}, {size}), np.float32)
    for _ in range({runs}):
        models["network"].run(tensor)
    return Reading(tuple(instance.sop_instance_uid for instance in study.instances))

handler = Handler(
    name="{name}", version="1", manufacturer="bench", basis=Basis.LEARNED, template="bench",
    terms=Terms(modalities=("CT",)), analyse=analyse, models=("network",), not_looked_at=("all",),
)
"""
MANIFEST = """
name = "network"
version = "1"
manufacturer = "bench"
file = "model.onnx"
sha256 = "{sha256}"
licence = "none"
purpose = "takes time"
population = "none"
limits = ["finds nothing"]
not_for = ["patients"]
threshold = 0.5
inputs = [{{ name = "x", shape = [-1, 3, {size}, {size}] }}]
outputs = [{{ name = "y", shape = [-1, {channels}] }}]
"""
RUNS_OF_LOAD = 40


def _network() -> bytes:
    """Convolutions as many as take about as long as DenseNet-121."""
    random = np.random.default_rng(1)
    nodes, weights, before = [], [], "x"
    for layer in range(LAYERS):
        shape = (CHANNELS, 3 if layer == 0 else CHANNELS, 3, 3)
        values = random.normal(0, 0.05, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        strides = [2, 2] if layer == 0 else [1, 1]
        nodes.append(helper.make_node("Conv", [before, f"w{layer}"], [f"c{layer}"], pads=[1] * 4, strides=strides))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        before = f"r{layer}"
    nodes.append(helper.make_node("ReduceMean", [before], ["y"], axes=[2, 3], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CHANNELS])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def _site(folder: Path) -> Study:
    """A site with the network and two handlers, and a study of one CT image of 0.5 MB."""
    content = _network()
    (folder / "models" / "network").mkdir(parents=True)
    (folder / "handlers").mkdir()
    (folder / "models" / "network" / "model.onnx").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    manifest = MANIFEST.format(sha256=sha256, size=SIZE, channels=CHANNELS)
    (folder / "models" / "network" / "model.toml").write_text(manifest, encoding="utf-8")
    for name, runs in (("once", 1), ("load", RUNS_OF_LOAD)):
        text = textwrap.dedent(HANDLER.format(name=name, runs=runs, size=SIZE))
        (folder / "handlers" / f"{name}.py").write_text(text, encoding="utf-8")
    return _study(folder)


def _study(folder: Path) -> Study:
    ds = dcmread(str(get_testdata_file("CT_small.dcm")))
    ds.Rows = ds.Columns = 512
    ds.PixelData = bytes(512 * 512 * 2)
    ds.save_as(folder / "image.dcm")
    sha256, size_bytes = dataset_digest(folder / "image.dcm")
    syntax, series_uid = str(ds.file_meta.TransferSyntaxUID), str(ds.SeriesInstanceUID)
    instance = Instance(
        str(ds.SOPInstanceUID), str(ds.SOPClassUID), syntax, series_uid, folder / "image.dcm", size_bytes, sha256
    )
    return Study(str(ds.StudyInstanceUID), 1, (Series(series_uid, "CT", (instance,), {"Modality": "CT"}),))


class Bench:
    """A site, the children that stay, and ways to run the network."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder, self._pool = folder, pool
        self._study = _site(folder)
        self._tensor: npt.NDArray[np.float32] = np.zeros((1, 3, SIZE, SIZE), np.float32)
        models = folder / "models" / "network"
        self._model = open_model(load_manifest(models).card, models, threads=SETTINGS.threads, device=SETTINGS.device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = SETTINGS.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._bare = onnxruntime.InferenceSession(models / "model.onnx", options)

    def bare(self) -> None:
        self._bare.run(["y"], {"x": self._tensor})

    def checked(self) -> None:
        self._model.run(self._tensor)

    def warm(self) -> None:
        self.study("once", "warm", self._pool)

    def cold(self) -> None:
        self.study("once", "cold", None)

    def study(self, handler: str, name: str, pool: Pool | None) -> None:
        series = tuple(one.series_instance_uid for one in self._study.series)
        item = Assignment(name, self._study.study_instance_uid, 1, handler, "rule", Priority.ROUTINE, (), series)
        folder = self._folder / "out" / name
        infer(item, self._study, site=self._folder, folder=folder, settings=SETTINGS, pool=pool)


def _ms(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1000


def _compare(bench: Bench, *, rounds: int, count: int) -> None:
    ways = {
        "bare session, same options": bench.bare,
        "Model.run, output checked": bench.checked,
        "a study in a child that stays": bench.warm,
    }
    for act in ways.values():
        act()
    os.nice(NICENESS)  # as the child is, which has started by now: on a busy machine it would seem slower than it is
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds * count):
        for name, act in ways.items():
            found[name].append(_ms(act))
    bare = statistics.median(found["bare session, same options"])
    print(f"\nA network of {bare:.0f} ms, one image, {SETTINGS.threads} threads, {rounds * count} rounds")
    print("| way | ms, median | least | over the bare session |")
    print("|---|---|---|---|")
    for name, values in found.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.1f} | {min(values):.1f} | {median / bare:.2f} x |")


def _memory_mb(pid: int, key: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition(f"{key}:")[2].split()[0]) // 1024


def _start_up(bench: Bench, pool: Pool) -> None:
    cold_s, warm_s = _ms(bench.cold) / 1000, min(_ms(bench.warm) for _ in range(3)) / 1000
    pid = pool.pids()[-1]
    print(f"\nA study in a child of its own takes {cold_s:.1f} s, in one that stays {warm_s:.2f} s", end="")
    print(f"; that one holds {_memory_mb(pid, 'VmRSS')} MB (peak {_memory_mb(pid, 'VmHWM')} MB)")


def _rate(folder: Path, objects: list[tuple[str, memoryview]]) -> float:
    with RECEIVERS[OURS](Path(tempfile.mkdtemp(dir=folder))) as port:
        return len(objects) / send(objects, port)


def _beside(bench: Bench, pool: Pool, folder: Path, *, rounds: int, count: int) -> None:
    objects = make_objects(count, 512 * 1024)
    rates: dict[str, list[float]] = {"alone": [], "while reading saturates the cores": []}
    for _ in range(rounds):
        rates["alone"].append(_rate(folder, objects))
        stop = threading.Event()

        def load(number: int, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                bench.study("load", f"load-{number}", pool)

        readers = [threading.Thread(target=load, args=(number,)) for number in range(SETTINGS.children)]
        for reader in readers:
            reader.start()
        rates["while reading saturates the cores"].append(_rate(folder, objects))
        stop.set()
        for reader in readers:
            reader.join()
    alone = statistics.median(rates["alone"])
    print(f"\n{count} objects of 512 KB, one Association, {rounds} rounds; {SETTINGS.children} child that never rests")
    print("| receiver | objects/s, median | least | most | of alone |")
    print("|---|---|---|---|---|")
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.0f} | {min(values):.0f} | {max(values):.0f} | {median / alone:.2f} x |")


def run(*, rounds: int, count: int, objects: int) -> None:
    """Measure all, and print the tables."""
    pool = Pool(SETTINGS)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as root, ExitStack() as stack:
        stack.callback(pool.close)
        bench = Bench(Path(root), pool)
        _beside(bench, pool, Path(root), rounds=rounds, count=objects)
        _start_up(bench, pool)
        _compare(bench, rounds=rounds, count=count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--objects", type=int, default=200)
    asked = parser.parse_args()
    run(rounds=asked.rounds, count=asked.count, objects=asked.objects)
