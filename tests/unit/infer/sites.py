"""Small sites for tests: handler files, tiny ONNX models, and a Study of real DICOM files."""

import hashlib
import textwrap
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.domain.study import Instance, Series, Study
from node.domain.work import Assignment, Priority
from node.store.digest import dataset_digest

STUDY_UID = "2.25.1"
SERIES_UID = "2.25.2"
ROWS, COLUMNS = 6, 10

HANDLER = """
from node.api import Basis, Handler, Reading, Terms

def analyse(study, models):
{body}

handler = Handler(
    name="{name}", version="1.2", manufacturer="Physics", basis=Basis.{basis}, template="{name}",
    terms=Terms(modalities=("CT",)), analyse=analyse, models={models!r},
    parameters=(("threshold", "0.5"),), not_looked_at=("bones",),
    time_limit_s={time_limit_s}, memory_limit_mb={memory_limit_mb},
)
"""

MANIFEST = """
name = "{name}"
version = "1.0"
manufacturer = "Physics"
file = "model.onnx"
sha256 = "{sha256}"
licence = "MIT"
purpose = "doubles what it is given"
population = "phantoms"
limits = ["knows phantoms only"]
not_for = ["patients"]
threshold = 0.5

[[inputs]]
name = "x"
shape = [-1, 2]

[[outputs]]
name = "y"
shape = [-1, 2]
"""


def write_handler(
    site: Path,
    name: str,
    body: str = "return Reading(tuple(i.sop_instance_uid for i in study.instances))",
    *,
    basis: str = "LEARNED",
    models: tuple[str, ...] = (),
    time_limit_s: float = 60.0,
    memory_limit_mb: int = 4096,
) -> Path:
    path = site / "handlers" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    (site / "models").mkdir(exist_ok=True)
    text = HANDLER.format(
        name=name,
        body=textwrap.indent(textwrap.dedent(body), "    "),
        basis=basis,
        models=models,
        time_limit_s=time_limit_s,
        memory_limit_mb=memory_limit_mb,
    )
    path.write_text(text, encoding="utf-8")
    return path


def write_model(site: Path, name: str, content: bytes) -> Path:
    folder = site / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / "model.toml").write_text(MANIFEST.format(name=name, sha256=sha256), encoding="utf-8")
    return folder


def onnx_of(nodes: list[onnx.NodeProto], *, input_shape: list[object], output_shape: list[object]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def doubling_model() -> bytes:
    return onnx_of([helper.make_node("Add", ["x", "x"], ["y"])], input_shape=["n", 2], output_shape=["n", 2])


def logarithm_model() -> bytes:
    """Gives NaN for a negative number."""
    return onnx_of([helper.make_node("Log", ["x"], ["y"])], input_shape=["n", 2], output_shape=["n", 2])


def growing_model() -> bytes:
    """Gives ones of the shape it is given as numbers."""
    nodes = [
        helper.make_node("Squeeze", ["x"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["shape"], to=TensorProto.INT64),
        helper.make_node("ConstantOfShape", ["shape"], ["y"]),
    ]
    return onnx_of(nodes, input_shape=["n", 2], output_shape=["a", "b"])


def write_study(folder: Path, *, instances: int = 2, comment: str = "") -> Study:
    """A Study of one CT Series with the images 2.25.10, 2.25.11 and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    written = tuple(_write_instance(folder, f"2.25.{10 + index}") for index in range(instances))
    header = {"Modality": "CT", "Rows": ROWS, "PixelSpacing": [0.5, 0.5], "ImageComments": comment}
    return Study(STUDY_UID, 1, (Series(SERIES_UID, "CT", written, header),))


def _write_instance(folder: Path, uid: str) -> Instance:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, uid
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = STUDY_UID, SERIES_UID, "CT"
    ds.PatientName, ds.PatientID = "CANARY^PATIENT", "CANARY"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    ds.PixelData = np.zeros((ROWS, COLUMNS), np.int16).tobytes()
    path = folder / f"{uid}.dcm"
    ds.save_as(path, enforce_file_format=True)
    sha256, size_bytes = dataset_digest(path)
    return Instance(uid, CTImageStorage, ExplicitVRLittleEndian, SERIES_UID, path, size_bytes, sha256)


def assignment_for(handler: str) -> Assignment:
    return Assignment("a-1", STUDY_UID, 1, handler, "rule", Priority.ROUTINE, ("pacs",), (SERIES_UID,))
