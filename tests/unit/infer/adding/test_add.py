"""Adding a model says what is missing, finds out what it can, and leaves nothing behind when it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from node.cli.commands import app
from node.errors import ModelError, WetreadError
from node.infer import load_handlers, model_states
from node.infer.models import State, load_cards, load_manifest
from node.report import load_templates
from tests.networks import blob_classifier, onnx_bytes, peak_detector, planar_segmenter, volume_segmenter
from tests.unit.infer.generic.added import add, new_site

SPOT = ("--ignore", "label_1", "--modality", "CR,DX", "--body-part", "CHEST", "--kind", "display")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return new_site(tmp_path)


def run(site: Path, *arguments: str) -> dict[str, object]:
    said = CliRunner().invoke(app, [*arguments, "--site", str(site), "--json"], catch_exceptions=False)
    found: dict[str, object] = json.loads(said.output)
    return found


def files_of(site: Path) -> list[str]:
    return sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())


def test_everything_that_is_missing_is_listed_at_once_with_its_option(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(volume_segmenter())
    before = files_of(site)
    with pytest.raises(ModelError) as refused:
        CliRunner().invoke(
            app, ["models", "add", str(file), "--name", "ball", "--site", str(site)], catch_exceptions=False
        )
    said = str(refused.value)
    for option in (
        "--version", "--manufacturer", "--licence", "--purpose", "--population", "--limits", "--not-for", "--modality",
        "--body-part", "--labels", "--activation", "--threshold", "--kind",
    ):  # fmt: skip
        assert option in said
    assert "Found out: task segmentation; layout NDHWC; channels 3; size 32,32,32" in said
    assert files_of(site) == before


def test_labels_in_the_file_are_proposed_and_the_end_tells_the_activation(site: Path) -> None:
    add(site, "spot", blob_classifier(labels=3), "--modality", "CR", "--body-part", "ANY", "--kind", "range")
    card = load_cards(site / "models")["spot"]
    assert card.labels == ("label_0", "label_1", "label_2")
    assert (card.activation, card.task, card.body_parts) == ("none", "classification", ())
    assert (card.heat_map_method, card.outputs[1].name) == ("grad_cam", card.heat_map_output)


def test_what_was_added_is_listed_verified_and_a_handler(site: Path) -> None:
    add(site, "spot", blob_classifier(), *SPOT)
    (state,) = model_states(site / "models")
    assert (state.state, state.task) == (State.READY, "classification")
    assert run(site, "models", "verify") == {"ready": ["spot"], "not_ready": []}
    handler = load_handlers(site / "handlers")["spot"]
    assert (handler.terms.modalities, handler.template, handler.models) == (("CR", "DX"), "spot", ("spot",))
    assert load_templates(site / "sr_templates")["spot"].finding("label_0").label["en"] == "Label 0"
    rule = (site / "models" / "spot" / "rule.toml").read_text(encoding="utf-8")
    assert 'handler = "spot"' in rule
    assert (site / "models" / "spot" / "card.md").read_text(encoding="utf-8").startswith("# spot 1.0")


def test_a_wrong_hash_is_told_by_list_and_verify_and_the_others_stay(site: Path) -> None:
    add(site, "spot", blob_classifier(), *SPOT)
    add(site, "bright", planar_segmenter(), "--labels", "bright", "--modality", "CR", "--body-part", "ANY", "--kind",
        "range")  # fmt: skip
    weights = site / "models" / "spot" / "model.onnx"
    weights.write_bytes(weights.read_bytes() + b"\0")
    said = CliRunner().invoke(app, ["models", "verify", "--site", str(site), "--json"])
    assert said.exit_code == 1
    found = json.loads(said.output)
    assert (found["ready"], [one["state"] for one in found["not_ready"]]) == (["bright"], ["wrong_hash"])
    assert set(load_handlers(site / "handlers")) == {"spot", "bright"}


def test_a_card_that_cannot_be_read_is_off_and_the_others_are_handlers(site: Path) -> None:
    add(site, "spot", blob_classifier(), *SPOT)
    (site / "models" / "broken").mkdir()
    (site / "models" / "broken" / "model.toml").write_text("name = ", encoding="utf-8")
    assert set(load_handlers(site / "handlers")) == {"spot"}
    assert {state.name: state.state for state in model_states(site / "models")}["broken"] is State.INVALID


def test_a_detector_of_one_table_and_one_of_three_outputs_become_the_same(site: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
             helper.make_node("Mul", ["mean", "none"], ["zero"]),
             helper.make_node("Add", ["zero", "row"], ["table"])]  # fmt: skip
    table = onnx_bytes(
        nodes,
        {"none": np.zeros((1, 1, 1), np.float32), "row": np.array([[[1, 2, 9, 8, 0.9, 0]]], np.float32)},
        inputs={"image": [1, 1, 32, 32]},
        outputs={"table": [1, "n", 6]},
    )
    said = ("--modality", "CR", "--body-part", "ANY", "--kind", "range")
    add(site, "table", table, "--labels", "thing", *said)
    add(site, "peak", peak_detector(), "--labels", "background,peak", "--ignore", "background", *said)
    for name in ("table", "peak"):
        card = load_manifest(site / "models" / name).card
        assert (card.task, [tensor.shape for tensor in card.outputs]) == ("detection", [(-1, 6)])


REFUSED: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "labels that are too few": (planar_segmenter(), ("--labels", "a,b", "--kind", "range"), "scores of 2 labels"),
    "scores that are none": (
        volume_segmenter(),
        ("--labels", "a,b", "--kind", "range", "--activation", "none", "--spacing", "1,1,1"),
        "should activation be sigmoid or softmax",
    ),
    "a size it does not take": (
        planar_segmenter(), ("--labels", "a", "--kind", "range", "--size", "32,32"), "the input is",
    ),
    "a kind that is none": (planar_segmenter(), ("--labels", "a", "--kind", "grey"), "kind must be one of"),
    "a threshold beyond": (planar_segmenter(), ("--labels", "a", "--kind", "range", "--threshold", "2"), "threshold"),
    "a label that is no key": (planar_segmenter(), ("--labels", "Big Ball", "--kind", "range"), "labels"),
    "a window of three": (planar_segmenter(), ("--labels", "a", "--kind", "hu", "--window", "1,2,3"), "--window"),
    "axes that do not cross": (
        volume_segmenter(),
        ("--labels", "a,b", "--kind", "range", "--activation", "softmax", "--spacing", "1,1,1", "--axes", "HFL"),
        "axes",
    ),
    "tiles without a spacing": (
        volume_segmenter(),
        ("--labels", "a,b", "--kind", "range", "--activation", "softmax", "--fit", "tiles"),
        "spacing_mm is needed",
    ),
    "a template that is not there": (
        planar_segmenter(), ("--labels", "a", "--kind", "range", "--template", "none"), "report template",
    ),
    "no ONNX at all": (b"weights", (), "no valid ONNX"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_a_reason_and_nothing_is_left(site: Path, tmp_path: Path, name: str) -> None:
    content, options, reason = REFUSED[name]
    before = files_of(site)
    with pytest.raises(WetreadError, match=reason):
        add(site, "thing", content, "--modality", "CR", "--body-part", "ANY", *options)
    assert files_of(site) == before
    assert not list((site / "models").iterdir())


def test_a_name_that_is_taken_is_refused(site: Path) -> None:
    add(site, "spot", blob_classifier(), *SPOT)
    with pytest.raises(ModelError, match="is there already"):
        add(site, "spot", blob_classifier(), *SPOT)
    (site / "handlers" / "peak.py").write_text("", encoding="utf-8")
    with pytest.raises(ModelError, match="there is a handler peak already"):
        add(
            site,
            "peak",
            peak_detector(),
            "--labels",
            "a,b",
            "--modality",
            "CR",
            "--body-part",
            "ANY",
            "--kind",
            "range",
        )


def test_half_precision_is_refused_with_what_to_do(site: Path, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 1, 8, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(ModelError, match="export the model with float32"):
        add(site, "half", model.SerializeToString())


def test_words_of_a_person_cannot_break_the_files(site: Path) -> None:
    sentence = 'says "quotes", \\ backslashes, {braces} and 中文\n[limits]'
    add(site, "spot", blob_classifier(), *SPOT, "--limits", sentence, "--labels-zh", '结节 "a" {b},无')
    card = load_manifest(site / "models" / "spot").card
    assert sentence in card.limits
    assert load_templates(site / "sr_templates")["spot"].finding("label_0").label["zh"] == '结节 "a" (b)'


def test_an_existing_template_that_knows_the_labels_is_used(site: Path) -> None:
    add(site, "first", planar_segmenter(), "--labels", "bright", "--modality", "CR", "--body-part", "ANY", "--kind",
        "range")  # fmt: skip
    add(site, "second", planar_segmenter(), "--labels", "bright", "--modality", "CR", "--body-part", "ANY", "--kind",
        "range", "--template", "first")  # fmt: skip
    assert load_handlers(site / "handlers")["second"].template == "first"
    assert not (site / "sr_templates" / "second.toml").exists()
