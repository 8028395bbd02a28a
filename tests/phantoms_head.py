"""Heads with known truth: CT of a skull with collections of known volume and a midline moved by known mm, and MR.

Positions are LPS mm from the middle of the head: left, back and up are positive. Every thin slice is drawn several
times and averaged, as a scanner averages over its thickness. The same arguments give the same bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from scipy import ndimage

from node.dicom.read import read_dataset
from tests.phantoms import ct_slice
from tests.phantoms_mr import write_mr_series

Array = npt.NDArray[np.float64]
Place = tuple[float, float, float]
Draw = Callable[[Array, Array, Array], npt.NDArray[np.bool_]]

AIR, SCALP, BONE, CSF, BRAIN, DURA = -1000.0, 20.0, 1100.0, 8.0, 34.0, 48.0
SKULL_MM = (72.0, 92.0, 88.0)  # outer table: half width, half length, half height
TABLE_MM = 6.0
FLOOR_MM = -46.0  # the base of the skull
VENTRICLES = (14.0, -8.0, 14.0)  # middle of the left lateral ventricle
ABOVE_MM, BELOW_MM = 95.0, -60.0

# Grey levels on MR: brain, fluid, scalp, oedema, core, enhancing rim.
MR_LEVELS = {
    "t1": (100.0, 70.0, 50.0, 96.0, 70.0, 70.0),
    "t1ce": (100.0, 70.0, 50.0, 96.0, 80.0, 220.0),
    "t2": (100.0, 190.0, 40.0, 160.0, 170.0, 150.0),
    "flair": (100.0, 60.0, 40.0, 200.0, 200.0, 200.0),
}
MR_NAMES = {"t1": "T1 SE AX", "t1ce": "T1 SE AX post Gd", "t2": "T2 TSE AX", "flair": "FLAIR AX"}
TUMOUR = (28.0, 15.0, 20.0)  # LPS mm of its middle: on the left
TUMOUR_MM = (21.0, 14.0, 9.0)  # radii of the whole, the core and the dead middle, which does not enhance


@dataclass(frozen=True, slots=True)
class Blob:
    """An ellipsoid, a crescent or a lens: `size` is half axes, the depth of a crescent, or the radius of a lens."""

    kind: str
    middle: Place
    size: Place
    hu: float

    @classmethod
    def ellipsoid(cls, middle: Place, half_axes_mm: Place, hu: float = 65.0) -> "Blob":
        return cls("ellipsoid", middle, half_axes_mm, hu)

    @classmethod
    def crescent(cls, side: str, depth_mm: float, hu: float = 65.0) -> "Blob":
        """Along the inner table of one side: the cavity less the cavity moved inwards by `depth_mm`."""
        return cls("crescent", (1.0 if side == "L" else -1.0, 0.0, 0.0), (depth_mm, 0.0, 0.0), hu)

    @classmethod
    def lens(cls, side: str, radius_mm: float, hu: float = 65.0) -> "Blob":
        """A ball whose middle lies on the inner table, of which the cavity holds the inner part."""
        reach = SKULL_MM[0] - TABLE_MM
        return cls("lens", (reach if side == "L" else -reach, 0.0, 14.0), (radius_mm,) * 3, hu)

    def holds(self, x: Array, y: Array, z: Array) -> npt.NDArray[np.bool_]:
        if self.kind == "crescent":
            side, depth = self.middle[0], self.size[0]
            inner = tuple(half - TABLE_MM for half in SKULL_MM)
            moved = _ellipsoid(x + side * depth, y, z, (0.0, 0.0, 0.0), inner)
            return _cavity(x, y, z) & ~moved & (side * x > 0) & (z > -20.0)
        return _ellipsoid(x, y, z, self.middle, self.size) & _cavity(x, y, z)

    @property
    def volume_ml(self) -> float:
        """What is inside the skull, counted on a grid of 0.5 mm."""
        step = 0.5
        if self.kind == "crescent":
            low, high = np.array(SKULL_MM) * -1.0, np.array(SKULL_MM)
        else:
            low, high = np.subtract(self.middle, self.size), np.add(self.middle, self.size)
        x, y, z = np.meshgrid(
            *(np.arange(a + step / 2, b, step) for a, b in zip(low, high, strict=True)), indexing="ij"
        )
        return float(self.holds(x, y, z).sum()) * step**3 / 1000.0


def ct_head(
    folder: Path,
    blobs: Sequence[Blob] = (),
    *,
    shift_mm: float = 0.0,
    slice_mm: float = 5.0,
    pixel_mm: float = 1.25,
    turn_deg: float = 0.0,
    tilt_deg: float = 0.0,
    noise_hu: float = 4.0,
    has_ventricles: bool = True,
    part: slice = slice(None),
    seed: int = 0,
    **header: object,
) -> list[Path]:
    """Write an axial CT of a head; `shift_mm` moves the midline to the left, `turn_deg` turns the head in its plane.

    With `tilt_deg` the gantry is tilted: planes are turned about the axis from right to left, the table moves along z.
    """
    size = round(236.0 / pixel_mm)
    across = (np.arange(size) - (size - 1) / 2) * pixel_mm
    tilt = np.deg2rad(tilt_deg)
    places = np.arange(BELOW_MM, ABOVE_MM + 0.1, slice_mm)
    random = np.random.default_rng(seed)
    x, v = np.meshgrid(across, across)
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, place in list(enumerate(places, start=1))[part]:
        plane = np.zeros_like(x)
        thin = np.array([-1.0, 0.0, 1.0]) / 3.0 * slice_mm
        for step in thin:
            y = v * np.cos(tilt) - step * np.sin(tilt)
            z = place + v * np.sin(tilt) + step * np.cos(tilt)
            plane += _values(*_turned(x, y, turn_deg), z, blobs, shift_mm, has_ventricles=has_ventricles)
        plane = ndimage.gaussian_filter(plane / len(thin), 0.6 / pixel_mm)
        plane += ndimage.gaussian_filter(random.normal(size=plane.shape), 0.7) * noise_hu / 0.4
        stored = np.clip(np.rint(plane), -1024, 3071).astype(np.int16)
        said: dict[str, object] = {
            "ImagePositionPatient": [across[0], across[0] * np.cos(tilt), place + across[0] * np.sin(tilt)],
            "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, float(np.cos(tilt)), float(np.sin(tilt))],
            "PixelSpacing": [pixel_mm, pixel_mm],
            "SliceThickness": slice_mm,
            "GantryDetectorTilt": tilt_deg,
            "ConvolutionKernel": "STANDARD",
            "WindowCenter": 40,
            "WindowWidth": 80,
        }
        paths.append(ct_slice(folder / f"{number:03d}.dcm", number=number, values_hu=stored, **(said | header)))
    return paths


def mr_head(
    folder: Path,
    sequence: str,
    *,
    has_tumour: bool = True,
    moved_mm: Place = (0.0, 0.0, 0.0),
    turn_deg: float = 0.0,
    slice_mm: float = 3.0,
    pixel_mm: float = 1.5,
    seed: int = 0,
    **header: object,
) -> list[Path]:
    """Write one MR sequence of a head with a round tumour; the head may have moved between sequences."""
    across, back = np.arange(-87.0, 87.1, pixel_mm), np.arange(-106.5, 106.6, pixel_mm)
    up = np.arange(-66.0, 102.1, slice_mm)
    z, y, x = np.meshgrid(up, back, across, indexing="ij")
    x, y, z = x - moved_mm[0], y - moved_mm[1], z - moved_mm[2]
    x, y = _turned(x, y, turn_deg)
    brain, fluid, scalp, oedema, core, rim = MR_LEVELS[sequence]
    middle = (0.0, 0.0, 0.0)
    values = np.where(_ellipsoid(x, y, z, middle, tuple(half + 7.0 for half in SKULL_MM)), scalp, 2.0)
    values[_ellipsoid(x, y, z, middle, SKULL_MM)] = 5.0
    values[_ellipsoid(x, y, z, middle, tuple(half - TABLE_MM for half in SKULL_MM)) & (z > FLOOR_MM)] = brain
    for side in (-1.0, 1.0):
        values[_ellipsoid(side * x - VENTRICLES[0], y, z, (0.0, *VENTRICLES[1:]), (7.5, 32.0, 11.0))] = fluid
    if has_tumour:
        for radius, level in zip(TUMOUR_MM, (oedema, rim, core), strict=True):
            values[_ellipsoid(x, y, z, TUMOUR, (radius,) * 3)] = level
    values += np.random.default_rng(seed).normal(0.0, 1.5, values.shape)
    affine = np.array(
        [[0, 0, pixel_mm, across[0]], [0, pixel_mm, 0, back[0]], [slice_mm, 0, 0, up[0]], [0, 0, 0, 1]], np.float64
    )
    said: dict[str, object] = {
        "SeriesDescription": MR_NAMES[sequence],
        "ProtocolName": MR_NAMES[sequence],
        "BodyPartExamined": "HEAD",
        "ScanningSequence": None,
        "RepetitionTime": None,
        "EchoTime": None,
        "InversionTime": None,
    }
    return write_mr_series(np.maximum(values, 0.0), affine, folder, **(said | header))


def head_of_a_real_slice(folder: Path, blobs: Sequence[Blob] = (), *, slice_mm: float = 5.0) -> list[Path]:
    """Write a head made of one real slice: smaller towards the vertex, a plate of bone as the floor, blobs put in."""
    ds, values = real_slice()
    pixel_mm = float(ds.PixelSpacing[0]) * 2
    values = values[::2, ::2]
    middle = (np.array(ndimage.center_of_mass(values > 300)) + 0.5).round()  # of the skull
    across = (np.arange(len(values)) - middle[1]) * pixel_mm
    down = (np.arange(len(values)) - middle[0]) * pixel_mm
    x, y = np.meshgrid(across, down)
    folder.mkdir(parents=True, exist_ok=True)
    head = ndimage.binary_fill_holes(values > 300).astype(float)
    paths = []
    for number, z in enumerate(np.arange(-55.0, 86.0, slice_mm), start=1):
        plane = _scaled(values, _scale(z), middle, AIR)
        above = _scaled(head, _scale(z + slice_mm), middle, 0.0) > 0.5
        is_floor = -50 <= z <= -46
        plane[(_scaled(head, _scale(z), middle, 0.0) > 0.5) & (~above | (z > 76) | is_floor)] = BONE
        for blob in blobs:
            share = np.mean([blob.holds(x, y, np.full_like(x, z + step)) for step in (-2, -1, 0, 1, 2)], axis=0)
            plane = plane + share * (blob.hu - np.where(share > 0, 33.0, 0.0)) * (plane > -50)
        paths.append(
            ct_slice(
                folder / f"{number:03d}.dcm",
                number=number,
                values_hu=np.clip(np.rint(plane), -1024, 3071).astype(np.int16),
                ImagePositionPatient=[across[0], down[0], z],
                PixelSpacing=[pixel_mm, pixel_mm],
                SliceThickness=slice_mm,
                SeriesDescription="5/5mm Plain",
            )
        )
    return paths


def _scale(z: float) -> float:
    return float(np.sqrt(max(1.0 - (max(z, 0.0) / 84.0) ** 2, 0.02)))


def _scaled(plane: Array, scale: float, middle: Array, outside: float) -> Array:
    matrix = np.eye(2) / scale
    return np.asarray(ndimage.affine_transform(plane, matrix, middle - matrix @ middle, order=1, cval=outside))


def real_slice() -> tuple[Dataset, Array]:
    """The head CT slice of pydicom-data and its HU; it is read where it is and never copied into the project."""
    path = get_testdata_file("693_UNCR.dcm", download=False)
    if not isinstance(path, str):
        raise FileNotFoundError("pydicom-data is not installed")
    ds = read_dataset(Path(path), with_pixels=True)
    return ds, np.maximum(ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept), AIR)


def _values(
    x: Array, y: Array, z: Array, blobs: Sequence[Blob], shift_mm: float, *, has_ventricles: bool = True
) -> Array:
    middle = (0.0, 0.0, 0.0)
    scalp = _ellipsoid(x, y, z, middle, tuple(half + 7.0 for half in SKULL_MM)) & (z > FLOOR_MM)
    skull = _ellipsoid(x, y, z, middle, SKULL_MM) & (z > FLOOR_MM - TABLE_MM)
    neck = (x / 55.0) ** 2 + ((y - 10.0) / 60.0) ** 2 < 1
    values = np.where(scalp | (neck & (z <= FLOOR_MM)), SCALP, AIR)
    values[skull] = BONE
    hole = (x / 14.0) ** 2 + ((y - 30.0) / 17.0) ** 2 < 1  # the foramen magnum
    values[skull & hole & (z <= FLOOR_MM)] = BRAIN
    cavity = _cavity(x, y, z)
    inner = tuple(half - TABLE_MM for half in SKULL_MM)
    values[cavity] = CSF
    values[cavity & _ellipsoid(x, y, z, middle, tuple(half - 2.5 for half in inner))] = BRAIN
    # The midline is moved most at the ventricles and not at all at the table: everything inside goes with it.
    moved = x - shift_mm * np.exp(-((y - VENTRICLES[1]) ** 2) / 45.0**2 - (z - VENTRICLES[2]) ** 2 / 40.0**2) * np.clip(
        1.0 - np.abs(x) / 66.0, 0.0, 1.0
    ) / (1.0 - min(abs(shift_mm), 30.0) / 66.0)
    core = cavity & (np.hypot(y / 84.0, z / 80.0) < 0.97)
    values[core & (np.abs(moved) < 1.2) & ((z > 34.0) | (np.abs(y) > 50.0))] = DURA  # the falx
    if has_ventricles:
        for side in (-1.0, 1.0):
            away = side * moved - VENTRICLES[0] + 0.12 * (30.0 - (y + 8.0))
            values[_ellipsoid(away, y, z, (0.0, *VENTRICLES[1:]), (7.5, 32.0, 11.0))] = CSF
        values[_ellipsoid(moved, y, z, (0.0, 4.0, -4.0), (3.0, 14.0, 8.0))] = CSF
    for blob in blobs:
        values[blob.holds(x, y, z)] = blob.hu
    return values


def _cavity(x: Array, y: Array, z: Array) -> npt.NDArray[np.bool_]:
    return _ellipsoid(x, y, z, (0.0, 0.0, 0.0), tuple(half - TABLE_MM for half in SKULL_MM)) & (z > FLOOR_MM)


def _ellipsoid(x: Array, y: Array, z: Array, middle: Place, half_axes: Sequence[float]) -> npt.NDArray[np.bool_]:
    (a, b, c), (p, q, r) = half_axes, middle
    inside: npt.NDArray[np.bool_] = ((x - p) / a) ** 2 + ((y - q) / b) ** 2 + ((z - r) / c) ** 2 < 1
    return inside


def _turned(x: Array, y: Array, degrees: float) -> tuple[Array, Array]:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return x * cosine + y * sine, y * cosine - x * sine
