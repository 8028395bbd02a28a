"""The demonstration leaves behind what it says it does, and nothing running."""

import json
from io import StringIO
from pathlib import Path

import hl7
import pytest
from PIL import Image
from pydicom.filereader import dcmread
from rich.console import Console

from node.demo.run import run_demo
from node.process import read_ready
from node.settings import load_settings
from node.supervisor import running_pid

pytestmark = pytest.mark.timeout(200)


@pytest.mark.peer
def test_the_demo_brings_back_every_kind_of_result_and_ends_clean(tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = StringIO()
    run_demo(out, Console(file=said, width=120))
    summary = {one["name"]: one for one in json.loads((out / "summary.json").read_text(encoding="utf-8"))}

    assert summary.keys() == {"chest", "brain"}
    for one in summary.values():
        assert one["findings"]
        assert one["seconds"] is not None
        assert set(one["receipts"].values()) == {"0x0000", "AA"}
        for kind in ("text_sr", "measurement_sr", "heat_map", "preview", "oru"):
            assert one["files"][kind], f"{one['name']} has no {kind}"
        named = {name for names in one["files"].values() for name in names}
        assert named == {path.name for path in out.glob(f"{one['name']}_*")}
        (message,) = one["files"]["oru"]
        assert str(hl7.parse((out / message).read_text(encoding="utf-8")).segment("MSH")[9]) == "ORU^R01^ORU_R01"
        for name in one["files"]["preview"]:
            with Image.open(out / name) as picture:
                assert picture.mode == "RGB"
    assert "segmentation" in summary["brain"]["files"]
    assert "1948 ml" in summary["brain"]["findings"][0]
    assert all(dcmread(path, stop_before_pixels=True).PatientID for path in out.glob("*.dcm"))

    assert "What came back" in said.getvalue()
    settings = load_settings(out / "run" / "site" / "config.toml", {})
    assert running_pid(settings) is None
    assert not read_ready(settings.store.path / "run", "receiver")
