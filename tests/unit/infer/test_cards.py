"""Every key of a card is held to its range, and the error names file and key."""

import re
from pathlib import Path

import pytest

from node.domain.models import Calibration, Preparation
from node.errors import ModelError
from node.infer.models import load_manifest, verify_model
from tests.networks import planar_segmenter
from tests.unit.infer.sites import write_model

TASK = """
task = "segmentation"
labels = ["nodule", "lung", "background"]
ignored_labels = ["background"]
anatomy_labels = ["lung"]
activation = "softmax"
modalities = ["CT"]
body_parts = ["CHEST", ""]
not_looked_at = ["others"]
backend = "onnx"
device = "auto"
preferred_batches = [1, 2, 4]
latest_start_ms = 5.0
"""
TABLES = """
[preparation]
kind = "hu"
size = [64, 64]
window = [40.0, 400.0]
spacing_mm = [1.5, 1.5]
channels = 3
channel_means = [0.4, 0.5, 0.6]
channel_stds = [0.2, 0.2, 0.3]
layout = "NHWC"
fit = "tiles"
overlap = 0.25
mean = 0.0
std = 1.0

[calibration]
method = "isotonic"
points = [[0.1, 0.0], [0.5, 0.2], [0.9, 0.8]]
temperature = 1.0
high_at = 0.7
medium_at = 0.3
source = "120 studies of this hospital"
"""


def write_card(folder: Path, before: str = "", after: str = "") -> Path:
    path = write_model(folder, "m", planar_segmenter()) / "model.toml"
    text = path.read_text(encoding="utf-8").replace("shape = [-1, 2]", "shape = [-1, 64, 64, 3]", 1)
    text = text.replace("\n[[inputs]]", f"{TASK}\n[[inputs]]") + TABLES
    assert before in text
    path.write_text(text.replace(before, after, 1) if before else text, encoding="utf-8")
    return path.parent


def test_a_whole_card_is_read(tmp_path: Path) -> None:
    card = load_manifest(write_card(tmp_path)).card
    assert card.labels == ("nodule", "lung", "background")
    assert card.preferred_batches == (1, 2, 4)
    assert card.preparation == Preparation(
        "hu", (64, 64), (40.0, 400.0), spacing_mm=(1.5, 1.5), channels=3, channel_means=(0.4, 0.5, 0.6),
        channel_stds=(0.2, 0.2, 0.3), layout="NHWC", fit="tiles", overlap=0.25,
    )  # fmt: skip
    assert card.calibration == Calibration(
        "isotonic", "120 studies of this hospital", points=((0.1, 0.0), (0.5, 0.2), (0.9, 0.8)), high_at=0.7,
        medium_at=0.3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ('backend = "onnx"', 'backend = "tflite"', "backend"),
        ('backend = "onnx"', 'backend = "onnx"\nurl = "10.0.0.1:8001"', "url"),
        ('backend = "onnx"', 'backend = "onnx"\narchitecture = "unet"', "architecture"),
        ('backend = "onnx"', 'backend = "kserve"\nurl = "10.0.0.1:8001"', "file"),
        ('backend = "onnx"', 'backend = "onnx"\nserved_version = "1"', "served_version"),
        ('backend = "onnx"', 'backend = "onnx"\nis_unverified = true', "is_unverified"),
        ("[[inputs]]", "[network]\nfeatures = [8, 16]\n[[inputs]]", "network"),
        ('device = "auto"', 'device = "gpu"', "device"),
        ("preferred_batches = [1, 2, 4]", "preferred_batches = [4, 2]", "preferred_batches"),
        ("preferred_batches = [1, 2, 4]", "preferred_batches = [0]", "preferred_batches"),
        ("latest_start_ms = 5.0", "latest_start_ms = -1.0", "latest_start_ms"),
        ("latest_start_ms = 5.0", "latest_start_ms = 1e9", "latest_start_ms"),
        ('task = "segmentation"', 'task = "regression"', "task"),
        ('task = "segmentation"', 'task = "classification"', "fit"),
        ('labels = ["nodule", "lung", "background"]', "labels = []", "labels"),
        ('labels = ["nodule", "lung", "background"]', 'labels = ["nodule", "nodule", "background"]', "labels"),
        ('ignored_labels = ["background"]', 'ignored_labels = ["air"]', "ignored_labels"),
        ('anatomy_labels = ["lung"]', 'anatomy_labels = ["liver"]', "anatomy_labels"),
        ('activation = "softmax"', 'activation = "relu"', "activation"),
        ('modalities = ["CT"]', "modalities = []", "modalities"),
        ('body_parts = ["CHEST", ""]', 'body_parts = ["chest"]', "body_parts"),
        ('not_looked_at = ["others"]', "not_looked_at = []", "not_looked_at"),
        ("threshold = 0.5", "threshold = 0.0", "threshold"),
        ('kind = "hu"', 'kind = "raw"', "kind"),
        ("window = [40.0, 400.0]", "window = [40.0, 0.0]", "window"),
        ("window = [40.0, 400.0]", "window = [40.0]", "window"),
        ('kind = "hu"', 'kind = "percentile"', "window"),
        ('kind = "hu"', 'kind = "display"', "window"),
        ("size = [64, 64]", "size = [32, 64]", "preparation"),
        ("size = [64, 64]", "size = [64, 64, 64]", "size"),
        ("spacing_mm = [1.5, 1.5]", "spacing_mm = [1.5]", "spacing_mm"),
        ("spacing_mm = [1.5, 1.5]", "spacing_mm = [1.5, 0.0]", "spacing_mm"),
        ("channels = 3", "channels = 0", "channels"),
        ("channel_means = [0.4, 0.5, 0.6]", "channel_means = [0.4]", "channel_means"),
        ("channel_stds = [0.2, 0.2, 0.3]", "channel_stds = [0.2, 0.0, 0.3]", "std"),
        ("std = 1.0", "std = nan", "std"),
        ('layout = "NHWC"', 'layout = "HWNC"', "layout"),
        ('fit = "tiles"', 'fit = "crop"', "fit"),
        ("overlap = 0.25", "overlap = 1.0", "overlap"),
        ("overlap = 0.25", 'overlap = 0.25\naxes = "HPL"', "axes"),
        ('method = "isotonic"', 'method = "platt"', "method"),
        ("points = [[0.1, 0.0], [0.5, 0.2], [0.9, 0.8]]", "points = [[0.1, 0.0]]", "points"),
        ("[0.5, 0.2]", "[0.05, 0.2]", "points"),
        ("[0.5, 0.2]", "[0.5, 0.9]", "points"),
        ("[0.5, 0.2]", "[0.5]", "points"),
        ("temperature = 1.0", "temperature = 0.0", "temperature"),
        ("medium_at = 0.3", "medium_at = 0.8", "high_at"),
        ('source = "120 studies of this hospital"', 'source = " "', "source"),
    ],
)
def test_a_card_beyond_its_range_is_refused_by_file_and_key(tmp_path: Path, before: str, after: str, key: str) -> None:
    with pytest.raises(ModelError, match=rf"m/model\.toml.*\b{re.escape(key)}\b"):
        load_manifest(write_card(tmp_path, before, after))


def test_a_task_without_its_preparation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="preparation is needed"):
        load_manifest(write_card(tmp_path, TABLES, ""))


def test_a_heat_map_must_be_a_further_output_with_a_known_method(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="heat_map_output must be a further output"):
        load_manifest(write_card(tmp_path, "[[inputs]]", 'heat_map_output = "y"\nheat_map_method = "cam"\n[[inputs]]'))


def test_a_served_model_needs_an_address_and_no_file(tmp_path: Path) -> None:
    served = 'backend = "kserve"\nurl = "triton.local:8001"\nserved_version = "1"\nis_unverified = true'
    folder = write_card(tmp_path, 'backend = "onnx"', served)
    text = (folder / "model.toml").read_text(encoding="utf-8")
    text = re.sub(r'^(file|sha256) = ".*"', r'\1 = ""', text, flags=re.MULTILINE)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    verify_model(load_manifest(folder).card, folder)
    (folder / "model.toml").write_text(text.replace("triton.local:8001", "http://x/y"), encoding="utf-8")
    with pytest.raises(ModelError, match="url must be host and port"):
        load_manifest(folder)
    for before, key in (('served_version = "1"', "served_version"), ("is_unverified = true", "is_unverified")):
        (folder / "model.toml").write_text(text.replace(before, ""), encoding="utf-8")
        with pytest.raises(ModelError, match=rf"model\.toml.*{key} must"):
            load_manifest(folder)
