"""The chest radiograph handler on phantoms with known truth, on one real abnormal film, and on what it must refuse."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from scipy import ndimage

from handlers.chest_xray import analyse, handler
from node.api import Finding, NotEvaluableError, Reading
from node.dicom.read import header_of, read_dataset
from node.domain.study import Instance, Series, Study
from tests.chest_models import lung_fields
from tests.phantoms import CHEST_SPACING_MM, OPACITIES, Opacity, Stored, chest_phantom, write_cr


def study(*paths: Path) -> Study:
    datasets = [read_dataset(path) for path in paths]
    uids = [str(ds.SOPInstanceUID) for ds in datasets]
    instances = tuple(Instance(uid, "", "", "1.2.3", path, 0, "") for uid, path in zip(uids, paths, strict=True))
    return Study("1.2", 1, (Series("1.2.3", str(datasets[0].Modality), instances, header_of(datasets[0])),))


def look(one: Study) -> Reading:
    return analyse(one, {"lung_fields": lung_fields()})


def read(array: npt.NDArray[np.generic], tmp_path: Path, **header: object) -> Reading:
    return look(study(write_cr(np.ascontiguousarray(array).astype(np.uint16), tmp_path / "film.dcm", **header)))


def center(finding: Finding) -> tuple[float, float]:
    """Row and column of the middle of a box, centre of the first pixel at 0, 0."""
    column, row = np.mean(finding.regions[0].points, axis=0) - 0.5
    return float(row), float(column)


def example(name: str) -> Path:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return Path(path)


@pytest.fixture(scope="module")
def phantom() -> Stored:
    return chest_phantom()[0]


@pytest.fixture(scope="module")
def real_film() -> Reading:
    return look(study(example("RG1_UNCR.dcm")))


def test_every_opacity_of_the_phantom_is_marked_and_nothing_else(phantom: Stored, tmp_path: Path) -> None:
    reading = read(phantom, tmp_path)
    assert len(reading.findings) == len(OPACITIES)
    for opacity in OPACITIES:
        (finding,) = [
            each
            for each in reading.findings
            if np.hypot(*np.subtract(center(each), (opacity.row, opacity.column))) * CHEST_SPACING_MM < 3.0
        ]
        (size,) = finding.measurements
        assert (size.quantity, size.unit) == ("long_axis", "mm")
        assert abs(size.value / opacity.diameter_mm - 1) < 0.2
        assert finding.laterality == ("R" if opacity.column < 460 else "L")
        assert finding.certainty is None
        left_top, _, right_bottom, _ = finding.regions[0].points
        radius = opacity.diameter_mm / 2 / CHEST_SPACING_MM
        assert left_top[0] < opacity.column - 0.9 * radius
        assert right_bottom[1] > opacity.row + 0.9 * radius


@pytest.mark.parametrize("diameter_mm", [12.0, 20.0, 28.0, 36.0])
@pytest.mark.parametrize("place", [(300, 250), (420, 690)])
def test_an_opacity_of_any_usual_size_is_found_in_place(
    diameter_mm: float, place: tuple[int, int], tmp_path: Path
) -> None:
    array, _ = chest_phantom([Opacity(*place, diameter_mm, 0.5)], seed=3)
    (finding,) = read(array, tmp_path).findings
    assert np.hypot(*np.subtract(center(finding), place)) * CHEST_SPACING_MM < 3.0
    assert abs(finding.measurements[0].value / diameter_mm - 1) < 0.2


def test_a_phantom_without_opacities_has_no_findings(tmp_path: Path) -> None:
    reading = read(chest_phantom([])[0], tmp_path)
    assert reading.findings == ()
    (heat_map,) = reading.heat_maps
    assert heat_map.score < heat_map.threshold
    assert reading.source_uids == (heat_map.sop_instance_uid,)


def test_the_heat_map_is_on_the_source_grid_and_hot_at_the_opacities(phantom: Stored, tmp_path: Path) -> None:
    reading = read(phantom, tmp_path)
    (heat_map,) = reading.heat_maps
    assert heat_map.heat.shape == heat_map.background.shape == phantom.shape
    assert heat_map.heat.dtype == np.float32
    assert 0.0 <= heat_map.heat.min() <= heat_map.heat.max() <= 1.0
    assert [label for _, label in heat_map.regions] == ["1", "2", "3"]
    assert [region for region, _ in heat_map.regions] == [finding.regions[0] for finding in reading.findings]
    for opacity in OPACITIES:
        assert heat_map.heat[int(opacity.row), int(opacity.column)] > heat_map.threshold
    assert [finding.score for finding in reading.findings] == sorted(
        (finding.score for finding in reading.findings if finding.score is not None), reverse=True
    )


def test_without_real_spacing_no_size_is_given(phantom: Stored, tmp_path: Path) -> None:
    reading = read(phantom, tmp_path, PixelSpacing=[0, 0])
    assert len(reading.findings) == len(OPACITIES)
    assert all(finding.measurements == () for finding in reading.findings)
    assert reading.heat_maps[0].spacing_mm is None


@pytest.mark.parametrize("spacing_mm", [0.02, 2.0])
def test_a_spacing_that_makes_impossible_lungs_is_not_believed(
    phantom: Stored, tmp_path: Path, spacing_mm: float
) -> None:
    reading = read(phantom, tmp_path, PixelSpacing=[spacing_mm, spacing_mm])
    assert all(finding.measurements == () for finding in reading.findings)


@pytest.mark.parametrize(
    ("orientation", "sides"), [(["R", "F"], {"L", "R"}), (None, {""}), (["L"], {""}), (["X", "F"], {""})]
)
def test_the_side_is_stated_only_where_the_header_says_it(
    phantom: Stored, tmp_path: Path, orientation: list[str] | None, sides: set[str]
) -> None:
    findings = read(phantom, tmp_path, PatientOrientation=orientation).findings
    if orientation == ["R", "F"]:  # seen from behind: the image's left is the patient's left
        assert all(finding.laterality == ("L" if center(finding)[1] < 460 else "R") for finding in findings)
    assert {finding.laterality for finding in findings} <= sides


def test_a_film_stored_as_monochrome1_gives_the_same_marks(phantom: Stored, tmp_path: Path) -> None:
    plain = read(phantom, tmp_path)
    inverse = read(4095 - phantom, tmp_path, PhotometricInterpretation="MONOCHROME1")
    assert [center(finding) for finding in inverse.findings] == [center(finding) for finding in plain.findings]


def test_the_same_film_always_gives_the_same_reading(phantom: Stored, tmp_path: Path) -> None:
    one, other = read(phantom, tmp_path), read(phantom, tmp_path)
    assert one.findings == other.findings
    assert [finding.finding_id for finding in one.findings] == ["opacity-1", "opacity-2", "opacity-3"]


def test_of_two_films_the_one_that_is_no_chest_is_left_out(phantom: Stored, tmp_path: Path) -> None:
    chest = write_cr(phantom, tmp_path / "chest.dcm")
    other = write_cr(np.zeros((600, 600), dtype=np.uint16), tmp_path / "other.dcm")
    reading = look(study(chest, other))
    assert reading.source_uids == (str(dcmread(chest).SOPInstanceUID),)
    assert len(reading.findings) == len(OPACITIES)


def test_finding_ids_go_on_over_two_films_and_the_second_has_no_side(phantom: Stored, tmp_path: Path) -> None:
    paths = [write_cr(phantom, tmp_path / f"{name}.dcm") for name in "ab"]
    findings = look(study(*paths)).findings
    assert [finding.finding_id for finding in findings] == [f"opacity-{number}" for number in range(1, 7)]
    assert {finding.laterality for finding in findings[3:]} == {""}


# RG1: (row, column, radius) of opacities seen on the film by eye, in its pixels.
OPACITIES_OF_RG1 = {
    "left middle field": (710, 1344, 100),
    "left lower field": (1170, 1460, 104),
    "right lower field": (1150, 490, 110),
    "beside the aortic arch": (490, 1070, 44),
    "right upper field": (540, 450, 50),
}


@pytest.mark.parametrize("name", OPACITIES_OF_RG1)
def test_the_real_film_is_marked_where_its_opacities_are(real_film: Reading, name: str) -> None:
    row, column, radius = OPACITIES_OF_RG1[name]
    distances = [np.hypot(*np.subtract(center(finding), (row, column))) for finding in real_film.findings]
    assert min(distances) < radius


def test_the_real_film_has_at_most_eight_marks_none_below_the_domes_or_outside_the_chest(real_film: Reading) -> None:
    assert 5 <= len(real_film.findings) <= 8
    for finding in real_film.findings:
        row, column = center(finding)
        assert 120 < row < 1400
        assert 170 < column < 760 or 1010 < column < 1640
        assert finding.laterality == ("R" if column < 900 else "L")  # PatientOrientation L\F
        assert finding.measurements == ()  # PixelSpacing 0


def test_the_best_marks_of_the_real_film_are_its_large_opacities(real_film: Reading) -> None:
    large = [OPACITIES_OF_RG1[name] for name in ("left middle field", "right lower field")]
    for finding in real_film.findings[:2]:
        row, column = center(finding)
        assert any(np.hypot(row - each[0], column - each[1]) < each[2] for each in large)


def test_a_compressed_copy_of_the_real_film_gives_the_same_marks(real_film: Reading) -> None:
    reading = look(study(example("RG1_J2KR.dcm")))
    assert [center(finding) for finding in reading.findings] == [center(finding) for finding in real_film.findings]


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"BodyPartExamined": "EXTREMITY"}, "not_chest_xray"),
        ({"ViewPosition": "LL"}, "not_frontal"),
        ({"PatientOrientation": ["A", "F"]}, "not_frontal"),
        ({"PatientOrientation": ["L", "H"]}, "not_frontal"),
    ],
)
def test_what_the_header_excludes_is_refused(
    phantom: Stored, tmp_path: Path, header: dict[str, object], key: str
) -> None:
    with pytest.raises(NotEvaluableError) as refused:
        read(phantom, tmp_path, **header)
    assert refused.value.key == key


SILENT: dict[str, object] = {"BodyPartExamined": None, "ViewPosition": None, "PatientOrientation": None}


@pytest.mark.parametrize("name", ["RG3_UNCR.dcm", "693_UNCR.dcm", "MR2_UNCR.dcm"])  # lower leg, head CT, shoulder MR
def test_another_body_part_is_refused_by_its_picture(name: str, tmp_path: Path) -> None:
    ds = dcmread(example(name))
    ds.Modality = "CR"
    for keyword in SILENT:
        if keyword in ds:
            del ds[keyword]
    ds.save_as(tmp_path / "other.dcm")
    with pytest.raises(NotEvaluableError) as refused:
        look(study(tmp_path / "other.dcm"))
    assert refused.value.key == "lungs_not_found"


def film_of(name: str) -> npt.NDArray[np.generic]:
    ds = dcmread(example(name))
    array: npt.NDArray[np.generic] = (ds.pixel_array.max() - ds.pixel_array) // 8  # MONOCHROME1, 15 bits to 12
    return array


WRONG = {
    "left half": lambda film: film[:, : film.shape[1] // 2],
    "right half": lambda film: film[:, film.shape[1] // 2 :],
    "upper half": lambda film: film[: film.shape[0] // 2],
    "lower half": lambda film: film[film.shape[0] // 2 :],
    "upside down": lambda film: film[::-1],
    "on its side": lambda film: film.T,
    "inverted": lambda film: film.max() - film,
}


@pytest.mark.parametrize("source", ["RG1", "phantom"])
@pytest.mark.parametrize("wrong", WRONG)
def test_half_turned_and_inverted_films_are_refused(phantom: Stored, tmp_path: Path, source: str, wrong: str) -> None:
    film = film_of("RG1_UNCR.dcm") if source == "RG1" else phantom
    with pytest.raises(NotEvaluableError) as refused:
        read(WRONG[wrong](film), tmp_path, **SILENT)
    assert refused.value.key == ("inverted" if wrong == "inverted" else "lungs_not_found")


@pytest.mark.parametrize("sigma", [0.0, 4.0, 25.0])
def test_noise_is_refused(tmp_path: Path, sigma: float) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(600, 600)), sigma)
    with pytest.raises(NotEvaluableError):
        read((noise - noise.min()) / np.ptp(noise) * 4095, tmp_path)


@pytest.mark.parametrize("value", [0, 4095])
def test_an_empty_image_is_refused(tmp_path: Path, value: int) -> None:
    with pytest.raises(NotEvaluableError) as refused:
        read(np.full((600, 600), value), tmp_path)
    assert refused.value.key == "lungs_not_found"


def test_a_thumbnail_is_refused(phantom: Stored, tmp_path: Path) -> None:
    with pytest.raises(NotEvaluableError) as refused:
        read(phantom[::5, ::5], tmp_path)
    assert refused.value.key == "too_small"


def test_the_handler_names_what_it_is_and_what_it_does_not_look_at() -> None:
    assert handler.basis == "rule-based in a learned region"  # of opacities nothing was learned, so no certainty
    assert handler.models == ("lung_fields",)
    assert {"pneumothorax", "effusion", "fracture", "behind_heart"} <= set(handler.not_looked_at)
    assert {"CR", "DX"} == set(handler.terms.modalities)
