"""The application for a site's own multi-label network, with small networks whose answer is known."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.data import get_testdata_file

from handlers.chest_multilabel import analyse, handler
from node.api import Model, ModelOutputError, NotEvaluableError, Reading
from node.dicom.read import header_of, read_dataset
from node.domain.study import Instance, Series, Study
from node.report import load_templates
from tests.chest_models import SITE, brightness_network, lung_fields, open_network, range_network
from tests.phantoms import Stored, chest_phantom, write_cr

# The labels of torchxrayvision's "all" weights in their order, as this template calls them.
XRV_LABELS = (
    "atelectasis", "consolidation", "infiltration", "pneumothorax", "edema", "emphysema", "fibrosis", "effusion",
    "pneumonia", "pleural_thickening", "cardiomegaly", "nodule", "mass", "hernia", "lung_lesion", "fracture",
    "lung_opacity", "enlarged_cardiomediastinum",
)  # fmt: skip
DARK_AND_BRIGHT = ("pneumothorax", "edema", "")


def study(*paths: Path) -> Study:
    datasets = [read_dataset(path) for path in paths]
    uids = [str(ds.SOPInstanceUID) for ds in datasets]
    instances = tuple(Instance(uid, "", "", "1.2.3", path, 0, "") for uid, path in zip(uids, paths, strict=True))
    return Study("1.2", 1, (Series("1.2.3", str(datasets[0].Modality), instances, header_of(datasets[0])),))


def given(network: Model) -> Mapping[str, Model]:
    return {"chest_multilabel": network, "lung_fields": lung_fields()}


def read(array: npt.NDArray[np.generic], network: Model, tmp_path: Path, **header: object) -> Reading:
    path = write_cr(np.ascontiguousarray(array).astype(np.uint16), tmp_path / "film.dcm", **header)
    return analyse(study(path), given(network))


@pytest.fixture(scope="module")
def phantom() -> Stored:
    return chest_phantom()[0]


@pytest.fixture
def network(tmp_path: Path) -> Model:
    """States pneumothorax on a dark film, edema on a bright one; its third output stands for nothing and is high."""
    return open_network(tmp_path / "models", brightness_network((-4.0, 4.0, 0.0)), DARK_AND_BRIGHT)


def test_only_labels_at_or_above_the_threshold_are_stated_and_none_with_a_probability(
    phantom: Stored, network: Model, tmp_path: Path
) -> None:
    reading = read(phantom, network, tmp_path)
    (finding,) = reading.findings
    assert finding.kind in ("pneumothorax", "edema")
    assert finding.score is not None
    assert finding.score >= 0.5
    assert finding.certainty is None
    assert finding.regions == ()
    assert finding.finding_id == f"{finding.kind}-1"


def test_a_calibration_in_the_card_gives_a_certainty(phantom: Stored, tmp_path: Path) -> None:
    calibration = '[calibration]\nmethod = "temperature"\ntemperature = 2.0\nsource = "a test"\n'
    content = brightness_network((-4.0, 4.0, 0.0))
    network = open_network(tmp_path / "models", content, DARK_AND_BRIGHT, calibration=calibration)
    (finding,) = read(phantom, network, tmp_path).findings
    assert finding.certainty is not None
    assert finding.score is not None
    assert 0.5 < finding.certainty.probability < finding.score


def test_the_network_is_given_the_whole_range_that_torchxrayvision_uses(phantom: Stored, tmp_path: Path) -> None:
    network = open_network(tmp_path / "models", range_network(), ("mass", "nodule"))
    film = phantom.copy()
    film[400:520, 100:160], film[400:520, 760:820] = 4095, 0
    scores = {finding.kind: finding.score for finding in read(film, network, tmp_path).findings}
    assert scores["mass"] == pytest.approx(1.0, abs=0.02)
    assert scores["nodule"] == pytest.approx(1.0, abs=0.02)


def test_the_heat_map_is_hot_where_the_network_looked_and_empty_outside_its_square(
    phantom: Stored, tmp_path: Path
) -> None:
    network = open_network(tmp_path / "models", brightness_network((0.0, 4.0)), ("pneumothorax", "edema"))
    film = np.clip(phantom.astype(np.int32) // 3, 0, 4095)
    film[420:520, 600:720] = 4095
    reading = read(film, network, tmp_path)
    assert {finding.kind for finding in reading.findings} == {"pneumothorax"}  # exactly 0.5
    film[:] = np.clip(phantom.astype(np.int32) + 900, 0, 4095)
    (heat_map, _) = read(film, network, tmp_path).heat_maps
    assert heat_map.heat.shape == phantom.shape
    assert heat_map.slice_label == "edema"
    assert heat_map.heat.max() == pytest.approx(heat_map.score, abs=1e-3)
    rows = phantom.shape[0]
    assert not heat_map.heat[: (rows - 920) // 2].any()
    row, column = np.unravel_index(int(heat_map.heat.argmax()), heat_map.heat.shape)
    assert row > 0.6 * rows  # the abdomen is the brightest part of the phantom
    assert 0.2 * 920 < column < 0.8 * 920


def test_without_a_stated_label_the_best_one_is_still_shown(phantom: Stored, tmp_path: Path) -> None:
    network = open_network(tmp_path / "models", brightness_network((-1.0, -2.0)), ("effusion", "edema"))
    film = np.clip(phantom.astype(np.int32) + 1500, 0, 4095)
    reading = read(film, network, tmp_path)
    assert reading.findings == ()
    (heat_map,) = reading.heat_maps
    assert heat_map.slice_label == "effusion"
    assert heat_map.score < heat_map.threshold


def test_logits_become_scores_where_the_card_says_so_and_are_refused_where_not(phantom: Stored, tmp_path: Path) -> None:
    content = brightness_network((-4.0, 4.0, 0.0), logits=True)
    plain = open_network(tmp_path / "plain", content, DARK_AND_BRIGHT)
    with pytest.raises(ModelOutputError, match="activation"):
        read(phantom, plain, tmp_path)
    told = open_network(tmp_path / "told", content, DARK_AND_BRIGHT, more='activation = "sigmoid"')
    direct = open_network(tmp_path / "direct", brightness_network((-4.0, 4.0, 0.0)), DARK_AND_BRIGHT)
    (one,), (other,) = read(phantom, told, tmp_path).findings, read(phantom, direct, tmp_path).findings
    assert one.score == pytest.approx(other.score, abs=1e-6)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"BodyPartExamined": "EXTREMITY"}, "not_chest_xray"),
        ({"ViewPosition": "LL"}, "not_frontal"),
        ({"PatientOrientation": ["A", "F"]}, "not_frontal"),
    ],
)
def test_what_the_header_excludes_is_refused(
    phantom: Stored, network: Model, tmp_path: Path, header: dict[str, object], key: str
) -> None:
    with pytest.raises(NotEvaluableError) as refused:
        read(phantom, network, tmp_path, **header)
    assert refused.value.key == key


@pytest.mark.parametrize("value", [0, 4095])
def test_an_empty_image_is_refused(network: Model, tmp_path: Path, value: int) -> None:
    with pytest.raises(NotEvaluableError) as refused:
        read(np.full((600, 600), value), network, tmp_path)
    assert refused.value.key == "lungs_not_found"


def test_half_a_film_is_refused_and_so_is_a_lower_leg(phantom: Stored, network: Model, tmp_path: Path) -> None:
    with pytest.raises(NotEvaluableError):
        read(phantom[:, : phantom.shape[1] // 2], network, tmp_path)
    leg = get_testdata_file("RG3_UNCR.dcm")
    assert isinstance(leg, str)
    with pytest.raises(NotEvaluableError):
        analyse(study(Path(leg)), given(network))


def test_every_label_of_torchxrayvision_has_words_and_a_code_in_both_languages() -> None:
    template = load_templates(SITE / "sr_templates")[handler.template]
    for label in XRV_LABELS:
        assert label in template.findings


def test_a_densenet_of_the_real_size_with_random_weights_runs_and_is_shown(phantom: Stored, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    network = open_network(tmp_path / "models", _densenet(torch), XRV_LABELS, more='activation = "none"')
    reading = read(phantom, network, tmp_path)
    assert reading.heat_maps
    assert all(finding.kind in XRV_LABELS and finding.certainty is None for finding in reading.findings)
    assert all(0.0 <= float(heat_map.heat.max()) <= 1.0 for heat_map in reading.heat_maps)


def _densenet(torch: object) -> bytes:
    """DenseNet-121 (Huang et al., CVPR 2017) for one grey channel, with the map of every class as a second output."""
    nn = torch.nn  # type: ignore[attr-defined]

    class Layer(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 128, 1, bias=False),
                nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 32, 3, padding=1, bias=False),
            )  # fmt: skip

        def forward(self, x: object) -> object:
            return torch.cat([x, self.body(x)], 1)  # type: ignore[attr-defined]

    class DenseNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            parts = [nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
            channels = 64
            for number, layers in enumerate((6, 12, 24, 16)):
                parts += [Layer(channels + 32 * layer) for layer in range(layers)]
                channels += 32 * layers
                if number < 3:
                    half = nn.Conv2d(channels, channels // 2, 1, bias=False)
                    parts += [nn.BatchNorm2d(channels), nn.ReLU(), half, nn.AvgPool2d(2)]
                    channels //= 2
            self.features = nn.Sequential(*parts, nn.BatchNorm2d(channels), nn.ReLU())
            self.classifier = nn.Linear(channels, len(XRV_LABELS))

        def forward(self, x: object) -> object:
            features = self.features(x)
            scores = self.classifier(features.mean((2, 3))).sigmoid()
            return scores, torch.einsum("bchw,lc->blhw", features, self.classifier.weight)  # type: ignore[attr-defined]

    torch.manual_seed(0)  # type: ignore[attr-defined]
    network, file = DenseNet().eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that needs no further package
        torch.onnx.export(  # type: ignore[attr-defined]
            network, (torch.zeros(1, 1, 224, 224),), file, input_names=["film"],  # type: ignore[attr-defined]
            output_names=["scores", "maps"], opset_version=17, dynamo=False,
        )  # fmt: skip
    assert sum(weight.numel() for weight in network.parameters()) == 6_966_034
    return file.getvalue()
