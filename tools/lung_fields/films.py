"""Real films for measuring, used where they lie and never copied: DICOM objects and pictures of a package."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image as Picture

from node.api import read_image
from node.domain.study import Instance

__all__ = ["Grid", "Network", "films"]

Grid = npt.NDArray[np.float32]


class Network:
    """The model in a session of its own: a `run` for `find_lung_fields`."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, tensor: Grid) -> Grid:
        """Probabilities of both lungs."""
        (found,) = self.session.run(None, {"picture": tensor})
        return np.asarray(found, dtype=np.float32)


def films(paths: Sequence[Path]) -> Iterator[tuple[str, Grid]]:
    """Name and grey values of every DICOM object and JPEG among the paths and in the folders among them."""
    for path in paths:
        for file in sorted(path.rglob("*.jp*g")) if path.is_dir() else [path]:
            if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
                with Picture.open(file) as picture:
                    yield file.stem, np.asarray(picture.convert("L"), dtype=np.float32)
            else:
                yield file.stem, read_image(Instance("1.2", "", "", "1.2.3", file, 0, "")).array
