"""Films that are given, as they are and with smooth balls put into their lungs; phantoms where none are given.

The lungs are those that the network `lung_fields` sees, so a film that it refuses stays as it is. A ball is not what a
real nodule looks like: it has no edge of its own, no calcium, and nothing in front of it that hides it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from node.api import LungFields, NotEvaluableError, find_lung_fields
from node.dicom.uid import derive_uid
from tests.phantoms import chest_phantom, write_cr
from tools.evaluation.labels import Row
from tools.lung_fields.films import Grid, Network, films

__all__ = ["make"]

KIND = "round_opacity"
MODEL = Path("models/lung_fields/model.onnx")
NODULES, CONTRASTS = 2, (0.10, 0.20)  # of the range from black to white, one each
DIAMETERS_MM, LUNGS_MM = (12.0, 24.0), 270.0  # both lungs of an adult are about this wide
PHANTOMS = 4
LONGER_SIDE = 1024


def make(folder: Path, given: Sequence[Path] = ()) -> Iterator[Row]:
    """Write each film twice, without and with nodules; both are one patient."""
    if not MODEL.is_file():
        raise SystemExit(f"{MODEL} is not there: make train-lung-fields")
    network = Network(MODEL)
    (folder / "studies").mkdir(parents=True, exist_ok=True)
    found = [_shown(values) for _, values in films(given)] if given else [_phantom(seed) for seed in range(PHANTOMS)]
    for number, film in enumerate(found):
        patient = f"film-{number + 1}"
        uid = _write(film, folder / "studies" / f"{patient}-as-it-is.dcm", patient)
        yield Row(uid, patient, KIND, label="0")
        try:
            lungs = find_lung_fields(film, network.run)
        except NotEvaluableError:
            continue
        changed, boxes = _with_nodules(film, lungs, np.random.default_rng(400 + number))
        uid = _write(changed, folder / "studies" / f"{patient}-with-nodules.dcm", patient)
        for box in boxes:
            yield Row(uid, patient, KIND, label="1", box=box, box_unit="px")
    _write_others(found, folder / "others")


def _shown(values: Grid) -> Grid:
    """Grey values 0 to 1, not larger than `LONGER_SIDE`."""
    factor = min(1.0, LONGER_SIDE / max(values.shape))
    if factor < 1.0:
        values = ndimage.zoom(ndimage.gaussian_filter(values, 0.5 / factor - 0.5), factor, order=1)
    low, high = np.percentile(values, (0.1, 99.9))
    return np.asarray(np.clip((values - low) / max(float(high - low), 1e-6), 0.0, 1.0), np.float32)


def _phantom(seed: int) -> Grid:
    return _shown(chest_phantom((), seed=seed)[0].astype(np.float32))


def _with_nodules(film: Grid, lungs: LungFields, random: np.random.Generator) -> tuple[Grid, list[str]]:
    depth = ndimage.distance_transform_edt(lungs.both)
    rows, columns = np.ogrid[: film.shape[0], : film.shape[1]]
    boxes: list[str] = []
    free = np.ones(film.shape, np.bool_)
    for contrast in CONTRASTS[:NODULES]:
        radius = float(random.uniform(*DIAMETERS_MM)) / 2.0 / LUNGS_MM * lungs.width_px
        places: npt.NDArray[np.intp] = np.argwhere(free & (depth > 1.2 * radius))
        row, column = (float(at) for at in places[random.integers(len(places))])
        square = ((rows - row) ** 2 + (columns - column) ** 2) / radius**2
        film = np.asarray(np.clip(film + contrast * np.sqrt(np.clip(1.0 - square, 0.0, 1.0)), 0.0, 1.0), np.float32)
        free &= square > 25.0
        left, top, right, bottom = column - radius, row - radius, column + radius, row + radius
        boxes.append(f"{left + 0.5:.1f} {top + 0.5:.1f} {right + 0.5:.1f} {bottom + 0.5:.1f}")
    return film, boxes


def _write(film: Grid, path: Path, patient: str) -> str:
    uid = derive_uid("evaluation", "chest_xray", path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = (np.ascontiguousarray(film) * 4095).astype(np.uint16)
    write_cr(stored, path, PatientID=patient, StudyInstanceUID=uid, PixelSpacing=None)
    return uid


def _write_others(found: Sequence[Grid], folder: Path) -> None:
    """The first films as no reader hangs them: inverted, upside down, on the side, and one lung alone."""
    for number, film in enumerate(found[:3], start=1):
        spoilt = {
            "inverted": 1.0 - film,
            "upside-down": film[::-1],
            "turned": np.rot90(film),
            "one-lung": film[:, : film.shape[1] // 2],
        }
        for name, picture in spoilt.items():
            _write(picture, folder / f"{name}-{number}.dcm", f"film-{number}")
