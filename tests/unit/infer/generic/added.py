"""A site with models that were added through the command line, and studies with a bright ball of known place."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from typer.testing import CliRunner

from node.cli.commands import app
from node.dicom.read import read_dataset
from node.domain.findings import Analysis
from node.domain.study import Instance, Series, Study
from node.domain.work import Assignment, Priority
from node.errors import NotEvaluableError
from node.infer import infer, load_handler
from node.infer.models import load_manifest
from node.infer.reading import analysis_of, not_evaluable_analysis
from node.infer.session import open_model
from node.paths import bundled_site
from node.settings import InferSettings
from node.store.analyses import load_analysis
from node.store.digest import dataset_digest
from tests.phantoms import ct_slice, write_cr
from tests.phantoms_mr import as_series

SAID = (
    "--version", "1.0", "--manufacturer", "Physics", "--licence", "MIT", "--purpose", "Finds bright things.",
    "--population", "phantoms", "--limits", "knows phantoms only", "--not-for", "patients", "--threshold", "0.5",
)  # fmt: skip
SETTINGS = InferSettings(threads=1)


def new_site(folder: Path) -> Path:
    """A site with the shipped settings and nothing else."""
    site = folder / "site"
    for name in ("handlers", "models", "sr_templates"):
        (site / name).mkdir(parents=True)
    shutil.copy(bundled_site() / "config.toml", site)
    return site


def add(site: Path, name: str, content: bytes, *options: str) -> None:
    """Add a model as a person would."""
    file = site.parent / f"{name}.onnx"
    file.write_bytes(content)
    said = CliRunner().invoke(app, ["models", "add", str(file), "--name", name, "--site", str(site), *SAID, *options])
    if said.exception is not None and not isinstance(said.exception, SystemExit):
        raise said.exception
    assert said.exit_code == 0, said.output


def read(site: Path, name: str, *series: Series) -> Analysis:
    """Let a handler read Series in this process: what a child does, without the wait for its start."""
    handler, study = load_handler(site / "handlers", name), Study("2.25.1", 1, series)
    folder = site / "models" / name
    model = open_model(load_manifest(folder).card, folder, threads=1, device="cpu")
    try:
        reading = handler.analyse(study, {name: model})
    except NotEvaluableError as refused:
        return not_evaluable_analysis(
            handler, study, str(refused), key=refused.key, cards=[model.card], device=model.device
        )
    return analysis_of(reading, handler, study, cards=[model.card], device=model.device, size_of=_size_of(study))


def _size_of(study: Study) -> Callable[[str], tuple[int, int, int]]:
    sizes = {one.sop_instance_uid: read_dataset(one.path) for one in study.instances}
    return lambda uid: (int(sizes[uid].Rows), int(sizes[uid].Columns), 1)


def read_in_a_child(site: Path, handler: str, *series: Series) -> Analysis:
    """Let a handler read Series as the node does."""
    whole = tuple(replace(one, instances=tuple(_with_digest(each) for each in one.instances)) for one in series)
    study = Study("2.25.1", 1, whole)
    uids = tuple(one.series_instance_uid for one in whole)
    assignment = Assignment("a-1", "2.25.1", 1, handler, "rule", Priority.ROUTINE, ("pacs",), uids)
    folder = infer(assignment, study, site=site, folder=site.parent / f"{handler}-analysis", settings=SETTINGS)
    return load_analysis(folder)


def _with_digest(instance: Instance) -> Instance:
    digest, size_bytes = dataset_digest(instance.path)
    return replace(instance, digest=digest, size_bytes=size_bytes)


def ball_ct(
    folder: Path,
    centre_mm: Sequence[float],
    radius_mm: float,
    *,
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.8),
    shape: tuple[int, int, int] = (32, 100, 120),
    origin_mm: tuple[float, float, float] = (-50.0, -40.0, 100.0),
    **header: object,
) -> Series:
    """Axial slices of water with a ball of 150 HU, its centre at LPS mm."""
    folder.mkdir(parents=True, exist_ok=True)
    z, y, x = (
        origin + np.arange(side) * step for origin, side, step in zip(origin_mm[::-1], shape, spacing_mm, strict=True)
    )
    distance = np.sqrt(
        (z[:, None, None] - centre_mm[2]) ** 2 + (y[None, :, None] - centre_mm[1]) ** 2 + (x - centre_mm[0]) ** 2
    )
    noise = np.random.default_rng(0).normal(0.0, 8.0, shape)
    values = (np.where(distance < radius_mm, 150.0, 0.0) + noise).astype(np.int16)
    paths = [
        ct_slice(
            folder / f"{index:03d}.dcm",
            number=index + 1,
            values_hu=values[index],
            **{
                "ImagePositionPatient": [origin_mm[0], origin_mm[1], float(z[index])],
                "PixelSpacing": list(spacing_mm[1:]),
                "SliceThickness": spacing_mm[0],
                "BodyPartExamined": "CHEST",
                **header,
            },
        )
        for index in range(shape[0])
    ]
    return as_series(paths)


def spot_cr(
    folder: Path,
    place: tuple[float, float] | None,
    radius: float = 30.0,
    *,
    shape: tuple[int, int] = (600, 500),
    **header: object,
) -> Series:
    """A radiograph, grey with a bright disc at (row, column) in pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.mgrid[: shape[0], : shape[1]]
    image: npt.NDArray[np.float64] = np.random.default_rng(0).normal(1500.0, 40.0, shape)
    if place is not None:
        image[np.hypot(row - place[0], column - place[1]) < radius] += 2300.0
    path = write_cr(np.clip(image, 0, 4095).astype(np.uint16), folder / "film.dcm", **header)
    return as_series([path])
