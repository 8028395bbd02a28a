"""A model that nobody prepared for this node: added by one command, and read through the whole node to PACS and RIS."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from node.process import read_ready
from node.send import send_files
from node.store.schema import ASSIGNMENTS
from tests.faults.running import RunningNode, running_node
from tests.networks import volume_segmenter
from tests.peers.validators import dciodvfy
from tests.unit.infer.generic.added import add, ball_ct

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]

LOCAL_SCHEME = "Unrecognized defined term <99WETREAD>"  # the drafted template's codes, until somebody gives better ones
CENTRE_MM, RADIUS_MM = (12.0, 5.0, 143.0), 11.0
OPTIONS = ("--labels", "background,ball", "--labels-zh", "背景,球形高密度影", "--ignore", "background",
           "--activation", "softmax", "--modality", "CT", "--body-part", "CHEST", "--kind", "hu", "--window", "0,400",
           "--spacing", "1.5,1.5,1.5", "--axes", "HPL")  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    node: RunningNode
    objects: list[Dataset]
    paths: list[Path]
    messages: list[str]
    outcomes: dict[str, str]


def _add_both(site: Path) -> None:
    """Two models with their rules; the weights of one are changed afterwards."""
    config = site / "config.toml"
    text = config.read_text(encoding="utf-8").split("\n[[rules]]")[0]
    for name in ("ball", "changed"):
        add(site, name, volume_segmenter(), *OPTIONS)
        text += "\n" + (site / "models" / name / "rule.toml").read_text(encoding="utf-8")
    config.write_text(text.replace("attempts = 3", "attempts = 1"), encoding="utf-8")
    weights = site / "models" / "changed" / "model.onnx"
    weights.write_bytes(weights.read_bytes() + b"\0")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("added")
    series = ball_ct(folder / "ct", CENTRE_MM, RADIUS_MM)
    with running_node(folder, prepare=_add_both) as node:
        port = read_ready(node.store.root / "run", "receiver")["port"]
        files = [instance.path for instance in series.instances]
        send_files(files, host="127.0.0.1", port=port, called_ae="WETREAD", calling_ae="CT1", on_sent=lambda _: None)
        node.acknowledged.extend(files)
        node.wait_until_at_rest(timeout_s=200)
        paths = []
        for uid in node.pacs.instances():
            paths.append(folder / f"{uid}.dcm")
            paths[-1].write_bytes(node.pacs.download(uid))
        with node.store.reading() as connection:
            outcomes = {row.handler: row.status for row in connection.execute(sa.select(ASSIGNMENTS))}
        messages = [message.decode("utf-8") for message in node.ris.receipts()]
        yield Outcome(node, [dcmread(path) for path in paths], paths, messages, outcomes)


def test_the_changed_model_alone_is_off_and_its_result_says_failed(outcome: Outcome) -> None:
    assert outcome.outcomes == {"ball": "findings", "changed": "failed"}
    assert len(outcome.messages) == 2


def test_the_mask_in_the_pacs_lies_on_the_ball(outcome: Outcome) -> None:
    (seg,) = [ds for ds in outcome.objects if ds.SOPClassUID == SegmentationStorage]
    shared = seg.SharedFunctionalGroupsSequence[0]
    rows, columns = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, np.float64)
    points = []
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        x, y, z = map(float, groups.PlanePositionSequence[0].ImagePositionPatient)
        points += [(x + column * columns, y + row * rows, z) for row, column in np.argwhere(frame)]
    assert np.linalg.norm(np.mean(points, axis=0) - CENTRE_MM) < 0.5
    volume_ml = len(points) * rows * columns * 2.5 / 1000.0
    assert volume_ml == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3 / 1000.0, rel=0.08)


def test_the_ris_gets_a_volume_and_a_score_that_is_called_no_probability(outcome: Outcome) -> None:
    (found,) = [message for message in outcome.messages if "ball-1" in message]
    assert "not a probability" in found
    assert "volume 5.2 ml" in found


def test_every_object_is_clean_for_dciodvfy_but_for_the_local_codes(outcome: Outcome) -> None:
    complaints = {path.name: [line for line in dciodvfy(path) if LOCAL_SCHEME not in line] for path in outcome.paths}
    assert {name: found for name, found in complaints.items() if found} == {}
