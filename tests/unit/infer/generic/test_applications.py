"""Models that nobody prepared for this node, added by the command line alone, find what is there where it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from node.dicom.stack import stack
from node.domain.findings import Finding, HeatMap, Status
from node.domain.study import Series
from node.errors import InferenceError
from node.infer import load_handler
from node.infer.models import load_manifest
from tests.networks import blob_classifier, dense_classifier, peak_detector, planar_segmenter, volume_segmenter
from tests.unit.infer.generic.added import add, ball_ct, new_site, read, read_in_a_child, spot_cr

BALL = ("--labels", "background,ball", "--ignore", "background", "--activation", "softmax", "--modality", "CT",
        "--body-part", "CHEST", "--kind", "hu", "--window", "0,400", "--spacing", "1.5,1.5,1.5",
        "--axes", "HPL")  # fmt: skip
SPOT = ("--ignore", "label_1", "--modality", "CR,DX", "--body-part", "CHEST", "--kind", "display")
PEAK = ("--labels", "background,peak", "--ignore", "background", "--modality", "CR", "--body-part", "CHEST",
        "--kind", "display", "--spacing", "2,2")  # fmt: skip
CENTRE_MM, RADIUS_MM = (12.0, 5.0, 143.0), 11.0
VOLUME_ML = 4.0 / 3.0 * np.pi * RADIUS_MM**3 / 1000.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = new_site(tmp_path_factory.mktemp("added"))
    add(site, "ball", volume_segmenter(), *BALL)
    add(site, "spot", blob_classifier(), *SPOT)
    add(site, "peak", peak_detector(), *PEAK)
    add(site, "bright", planar_segmenter(), "--labels", "bright", "--modality", "CR,CT", "--body-part", "ANY",
        "--kind", "display", "--fit", "tiles")  # fmt: skip
    return site


def centre_of(finding: Finding) -> tuple[float, float]:
    """Row and column of the middle of an outline; pixel centres are whole numbers."""
    columns, rows = np.array(finding.regions[0].points).T - 0.5
    return (rows.min() + rows.max()) / 2.0, (columns.min() + columns.max()) / 2.0


def place_mm(finding: Finding, series: Series) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """LPS mm of the middle of an outline on a slice."""
    volume = stack(series)
    index = volume.sop_instance_uids.index(finding.regions[0].sop_instance_uid)
    return np.asarray((volume.affine @ (index, *centre_of(finding), 1.0))[:3])


def measured(finding: Finding) -> dict[str, float]:
    return {measurement.quantity: measurement.value for measurement in finding.measurements}


def test_a_ball_is_found_where_it_is_by_a_model_of_another_layout_and_spacing(site: Path, tmp_path: Path) -> None:
    series = ball_ct(tmp_path / "ct", CENTRE_MM, RADIUS_MM)
    analysis = read_in_a_child(site, "ball", series)
    (finding,) = analysis.findings
    assert analysis.status is Status.FINDINGS
    assert (finding.kind, finding.finding_id) == ("ball", "ball-1")
    assert np.linalg.norm(place_mm(finding, series) - CENTRE_MM) < 2.0
    assert measured(finding)["volume"] == pytest.approx(VOLUME_ML, rel=0.08)
    assert measured(finding)["long_axis"] == pytest.approx(2 * RADIUS_MM, abs=1.5)
    assert finding.certainty is None
    assert analysis.algorithm.weights_sha256 == load_manifest(site / "models" / "ball").card.sha256
    (segmentation,) = analysis.segmentations
    points_mm = np.argwhere(segmentation.mask) @ segmentation.affine[:3, :3].T + segmentation.affine[:3, 3]
    assert np.linalg.norm(points_mm.mean(axis=0) - CENTRE_MM) < 0.5


def test_the_order_of_the_slices_and_the_patient_turned_round_change_nothing(site: Path, tmp_path: Path) -> None:
    turned = ball_ct(
        tmp_path / "feet", (-12.0, -5.0, 143.0), RADIUS_MM, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]
    )  # its own axes run the other way, so the ball lies at minus x and minus y of its origin
    analysis = read(site, "ball", turned)
    (finding,) = analysis.findings
    volume = stack(turned)
    mask = analysis.segmentations[0].mask
    centre = (volume.affine @ (*np.argwhere(mask).mean(axis=0), 1.0))[:3]
    expected = np.array([-50.0 - (-12.0 + 50.0), -40.0 - (-5.0 + 40.0), 143.0])
    assert np.linalg.norm(centre - expected) < 0.5
    assert measured(finding)["volume"] == pytest.approx(VOLUME_ML, rel=0.08)


def test_two_balls_are_two_findings_largest_first_and_one_mask(site: Path, tmp_path: Path) -> None:
    one = ball_ct(tmp_path / "one", (-25.0, -15.0, 130.0), 9.0)
    other = ball_ct(tmp_path / "other", (20.0, 10.0, 150.0), 13.0)
    for first, second in zip(one.instances, other.instances, strict=True):
        ds, more = dcmread(first.path), dcmread(second.path)
        ds.PixelData = np.maximum(ds.pixel_array, more.pixel_array).tobytes()
        ds.save_as(first.path)
    analysis = read(site, "ball", one)
    assert [finding.finding_id for finding in analysis.findings] == ["ball-1", "ball-2"]
    volumes = [measured(finding)["volume"] for finding in analysis.findings]
    assert volumes == pytest.approx([4 / 3 * np.pi * r**3 / 1000.0 for r in (13.0, 9.0)], rel=0.12)
    (segmentation,) = analysis.segmentations
    assert segmentation.finding_id == ""


def test_a_volume_without_a_ball_has_no_finding_and_a_cold_heat_map(site: Path, tmp_path: Path) -> None:
    analysis = read(site, "ball", ball_ct(tmp_path / "none", CENTRE_MM, 0.0))
    assert (analysis.status, analysis.findings, analysis.segmentations) == (Status.NO_FINDINGS, (), ())
    (heat_map,) = analysis.heat_maps
    assert heat_map.score < 0.5


def hottest(heat_map: HeatMap) -> tuple[float, float]:
    rows, columns = np.nonzero(heat_map.heat >= 0.8 * heat_map.heat.max())
    return float(rows.mean()), float(columns.mean())


def test_a_classifier_says_what_it_sees_and_grad_cam_shows_where(site: Path, tmp_path: Path) -> None:
    analysis = read(site, "spot", spot_cr(tmp_path / "cr", (180.0, 370.0), 45.0))
    (finding,) = analysis.findings
    assert (finding.kind, finding.regions, finding.certainty) == ("label_0", (), None)
    assert finding.score is not None
    assert finding.score > 0.9
    (heat_map,) = analysis.heat_maps
    assert heat_map.basis.startswith("Grad-CAM")
    assert np.hypot(*np.subtract(hottest(heat_map), (180.0, 370.0))) < 12
    assert heat_map.heat.max() == pytest.approx(finding.score, abs=0.02)
    assert heat_map.heat.shape == (600, 500)


def test_a_film_without_a_spot_has_no_finding_and_its_heat_map_says_so(site: Path, tmp_path: Path) -> None:
    analysis = read(site, "spot", spot_cr(tmp_path / "cr", None))
    assert (analysis.status, analysis.findings) == (Status.NO_FINDINGS, ())
    assert analysis.heat_maps[0].score < analysis.heat_maps[0].threshold


def test_boxes_lie_around_what_was_seen_and_are_measured_in_mm(site: Path, tmp_path: Path) -> None:
    analysis = read(site, "peak", spot_cr(tmp_path / "cr", (180.0, 370.0), 12.0))
    (finding,) = analysis.findings
    assert finding.kind == "peak"
    assert np.hypot(*np.subtract(centre_of(finding), (180.0, 370.0))) * 0.4 < 4.0
    assert measured(finding)["long_axis"] == pytest.approx(26.0, abs=0.5)  # 13 pixels of 2 mm
    (heat_map,) = analysis.heat_maps
    assert np.hypot(*np.subtract(hottest(heat_map), centre_of(finding))) < 2.0


def test_a_detector_that_sees_nothing_is_no_error(site: Path, tmp_path: Path) -> None:
    analysis = read(site, "peak", spot_cr(tmp_path / "cr", None))
    assert (analysis.status, analysis.findings) == (Status.NO_FINDINGS, ())


def test_a_model_for_images_sees_a_volume_slice_by_slice_and_gives_one_mask(site: Path, tmp_path: Path) -> None:
    series = ball_ct(tmp_path / "ct", CENTRE_MM, RADIUS_MM, shape=(12, 100, 120), origin_mm=(-50.0, -40.0, 130.0))
    analysis = read(site, "bright", series)
    (finding,) = analysis.findings
    assert measured(finding)["volume"] == pytest.approx(VOLUME_ML, rel=0.12)
    assert np.linalg.norm(place_mm(finding, series) - CENTRE_MM) < 2.6
    assert analysis.segmentations[0].mask.shape == (12, 100, 120)


def test_an_area_is_given_on_a_film_and_only_with_a_real_spacing(site: Path, tmp_path: Path) -> None:
    place = (200.0, 150.0)
    (finding,) = read(site, "bright", spot_cr(tmp_path / "mm", place)).findings
    assert measured(finding)["area"] == pytest.approx(np.pi * (30 * 0.4) ** 2, rel=0.05)
    assert np.hypot(*np.subtract(centre_of(finding), place)) < 1.0
    (finding,) = read(site, "bright", spot_cr(tmp_path / "px", place, PixelSpacing=[0, 0])).findings
    assert finding.measurements == ()


Make = Callable[[Path], Series]
REFUSED: dict[str, tuple[str, Make, str]] = {
    "another modality": ("spot", lambda to: ball_ct(to, CENTRE_MM, RADIUS_MM), "wrong_modality"),
    "another body part": ("ball", lambda to: ball_ct(to, CENTRE_MM, RADIUS_MM, BodyPartExamined="HEAD"),
                          "wrong_body_part"),
    "a silent header": ("spot", lambda to: spot_cr(to, None, BodyPartExamined=None), "unknown_body_part"),
    "a constant film": ("bright", lambda to: spot_cr(to, None, WindowCenter=9000, WindowWidth=2), "blank"),
    "no real spacing": ("peak", lambda to: spot_cr(to, None, PixelSpacing=[0, 0]), "no_spacing"),
    "a thumbnail": ("spot", lambda to: spot_cr(to, None, shape=(50, 50)), "too_small"),
    "coarse slices": ("ball", lambda to: ball_ct(to, CENTRE_MM, RADIUS_MM, spacing_mm=(10.0, 0.8, 0.8)), "too_coarse"),
    "a narrow field": ("ball", lambda to: ball_ct(to, CENTRE_MM, RADIUS_MM, shape=(4, 100, 120)), "too_small"),
    "other numbers than HU": ("ball", lambda to: ball_ct(to, CENTRE_MM, RADIUS_MM, RescaleType="US"), "not_hu"),
    "two phases": ("ball", lambda to: ball_ct(to, CENTRE_MM, RADIUS_MM, ImagePositionPatient=[0, 0, 0]), "geometry"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_model_was_not_made_for_is_not_evaluable(site: Path, tmp_path: Path, name: str) -> None:
    handler, make, key = REFUSED[name]
    series = make(tmp_path / "images")
    record = load_handler(site / "handlers", handler)
    analysis = read(site, handler, series)
    assert (analysis.status, analysis.reason_key, analysis.findings) == (Status.NOT_EVALUABLE, key, ())
    assert analysis.template == record.template


def test_an_empty_volume_is_not_evaluable(site: Path, tmp_path: Path) -> None:
    series = ball_ct(tmp_path / "ct", CENTRE_MM, RADIUS_MM)
    for instance in series.instances:
        ds = dcmread(instance.path)
        ds.PixelData = bytes(len(ds.PixelData))
        ds.save_as(instance.path)
    assert read(site, "ball", series).reason_key == "blank"


def test_a_wrong_hash_switches_that_one_model_off_and_nothing_else(tmp_path: Path) -> None:
    site = new_site(tmp_path)
    add(site, "spot", blob_classifier(), *SPOT)
    add(site, "peak", peak_detector(), *PEAK)
    weights = site / "models" / "spot" / "model.onnx"
    weights.write_bytes(weights.read_bytes() + b"\0")
    film = spot_cr(tmp_path / "cr", (180.0, 370.0), 12.0)
    with pytest.raises(InferenceError, match="the model is off"):
        read_in_a_child(site, "spot", film)
    assert read_in_a_child(site, "peak", film).status is Status.FINDINGS


@pytest.mark.parametrize(("way", "said"), [("score_cam", "Score-CAM"), ("", "loss of score")])
def test_without_grad_cam_the_image_is_hidden_part_by_part(tmp_path: Path, way: str, said: str) -> None:
    site = new_site(tmp_path)
    add(site, "spot", blob_classifier(), *SPOT)
    path = site / "models" / "spot" / "model.toml"
    text = path.read_text(encoding="utf-8")
    if way:  # features in place of maps: one for each label will do
        text = text.replace('heat_map_method = "grad_cam"', f'heat_map_method = "{way}"')
    else:
        text = text.replace('heat_map_method = "grad_cam"\n', "").replace('heat_map_output = "wetread_heat_map"\n', "")
    path.write_text(text, encoding="utf-8")
    (heat_map,) = read(site, "spot", spot_cr(tmp_path / "cr", (180.0, 370.0), 45.0)).heat_maps
    assert heat_map.basis.startswith(said)
    assert np.hypot(*np.subtract(hottest(heat_map), (180.0, 370.0))) < 40


def test_a_calibration_in_the_card_gives_a_probability_and_a_tier(tmp_path: Path) -> None:
    site = new_site(tmp_path)
    add(site, "spot", blob_classifier(), *SPOT)
    with (site / "models" / "spot" / "model.toml").open("a", encoding="utf-8") as file:
        file.write('\n[calibration]\nmethod = "temperature"\ntemperature = 4.0\nsource = "40 phantoms"\n')
    (finding,) = read(site, "spot", spot_cr(tmp_path / "cr", (180.0, 370.0), 45.0)).findings
    assert finding.certainty is not None
    assert finding.score is not None
    logit = np.log(finding.score / (1 - finding.score))
    assert finding.certainty.probability == pytest.approx(1 / (1 + np.exp(-logit / 4)), rel=1e-3)


def test_a_model_with_an_end_like_vgg_runs_and_its_map_is_warm_somewhere(tmp_path: Path) -> None:
    site = new_site(tmp_path)
    add(site, "dense", dense_classifier(), "--labels", "a,b,c", "--activation", "softmax", "--modality", "CR",
        "--body-part", "ANY", "--kind", "range", "--threshold", "0.3")  # fmt: skip
    analysis = read(site, "dense", spot_cr(tmp_path / "cr", (300.0, 100.0)))
    assert analysis.heat_maps
    assert analysis.heat_maps[0].heat.max() > 0
