"""The demonstration leaves behind what it says it does, and nothing running."""

import json
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import hl7
import pytest
from PIL import Image
from pydicom.filereader import dcmread
from rich.console import Console

from node.demo.run import run_demo
from node.process import read_ready
from node.settings import load_settings
from node.store.digest import dataset_digest
from node.supervisor import running_pid
from tests.peers.validators import dciodvfy, dsrdump, tid1500reader

pytestmark = [pytest.mark.peer, pytest.mark.timeout(200)]

# The radiograph's own physician is called "ward"; DICOM names the form retired, and a result keeps its study's header.
OF_THE_SOURCE = "PN [1] = <ward> - Retired Person Name form"


@dataclass(frozen=True)
class Demo:
    """What one run of the demonstration left and said."""

    out: Path
    said: str
    summary: dict[str, Any]

    def files(self, study: str, kind: str) -> list[Path]:
        return [self.out / name for name in self.summary[study]["files"][kind]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("demo") / "out"
    said = StringIO()
    run_demo(out, Console(file=said, width=120))
    summary = {one["name"]: one for one in json.loads((out / "summary.json").read_text(encoding="utf-8"))}
    return Demo(out, said.getvalue(), summary)


def test_both_studies_bring_back_every_kind_of_result(demo: Demo) -> None:
    assert demo.summary.keys() == {"chest", "brain"}
    for name, one in demo.summary.items():
        assert one["findings"]
        assert one["seconds"] is not None
        assert set(one["receipts"].values()) == {"0x0000", "AA"}
        for kind in ("text_sr", "measurement_sr", "heat_map", "preview", "oru"):
            assert one["files"][kind], f"{name} has no {kind}"
        named = {file for files in one["files"].values() for file in files}
        assert named == {path.name for path in demo.out.glob(f"{name}_*")}
    assert demo.files("brain", "segmentation")
    assert "What came back" in demo.said


def test_every_object_in_the_pacs_is_clean_for_other_makers_programs(demo: Demo) -> None:
    complaints = {
        path.name: [line for line in dciodvfy(path) if not line.endswith(OF_THE_SOURCE)]
        for path in demo.out.glob("*.dcm")
    }
    assert not {name: lines for name, lines in complaints.items() if lines}
    for study in demo.summary:
        for kind in ("text_sr", "measurement_sr"):
            for path in demo.files(study, kind):
                assert "Preliminary Flag    : PRELIMINARY" in dsrdump(path)


def test_the_pacs_gives_back_the_very_bytes_that_were_made(demo: Demo) -> None:
    made = {dataset_digest(path) for path in (demo.out / "run" / "site" / "store" / "results").rglob("*.dcm")}
    held = {dataset_digest(path) for path in demo.out.glob("*.dcm")}
    assert held == made
    assert len(held) == len(list(demo.out.glob("*.dcm")))


def test_report_and_message_tell_the_same_volume(demo: Demo, tmp_path: Path) -> None:
    (report,), (message,) = demo.files("brain", "measurement_sr"), demo.files("brain", "oru")
    (group,) = tid1500reader(report, tmp_path / "out.json")["Measurements"]
    (item,) = group["measurementItems"]
    observations = hl7.parse(message.read_bytes().decode("utf-8")).segments("OBX")
    (volume,) = [one for one in observations if str(one[2]) == "NM"]
    assert float(item["value"]) == pytest.approx(float(str(volume[5])), abs=0.001)
    assert item["units"]["CodeValue"] == str(volume[6]).split("^")[0] == "ml"
    assert 1900 < float(item["value"]) < 2000
    assert str(volume[11]) == "R"


def test_the_messages_are_what_a_ris_expects(demo: Demo) -> None:
    for study, accession in (("brain", "MR0001"), ("chest", "exam Number")):
        (path,) = demo.files(study, "oru")
        message = hl7.parse(path.read_bytes().decode("utf-8"))
        assert str(message.segment("MSH")[9]) == "ORU^R01^ORU_R01"
        assert str(message.segment("OBR")[18]) == accession
        assert str(message.segment("OBR")[25]) == "R"
        (image,) = [one for one in message.segments("OBX") if str(one[3]).startswith("113014^")]
        assert str(image[5]) == str(dcmread(demo.files(study, "text_sr")[0]).StudyInstanceUID)


def test_every_heat_map_has_a_picture(demo: Demo) -> None:
    for study in demo.summary:
        assert len(demo.files(study, "preview")) == len(demo.files(study, "heat_map"))
        for path in demo.files(study, "preview"):
            with Image.open(path) as picture:
                assert picture.mode == "RGB"
                assert min(picture.size) >= 217


def test_nothing_is_left_running(demo: Demo) -> None:
    settings = load_settings(demo.out / "run" / "site" / "config.toml", {})
    assert running_pid(settings) is None
    assert not read_ready(settings.store.path / "run", "receiver")
