"""The log holds declared keys and one line for each event; nothing a peer sent gets in another way."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from node.errors import UnreadableInstanceError
from node.log import ALLOWED, LONGEST_VALUE, configure_logging, keep_allowed

CANARY = "Canary^Wet"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def _lines(style: str, **keys: object) -> list[str]:
    written = io.StringIO()
    with redirect_stderr(written):
        configure_logging("info", style)
        structlog.get_logger("node.receive").info("object kept", **keys)
    return written.getvalue().splitlines()


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_value_of_an_undeclared_key_is_not_written(style: str) -> None:
    (line,) = _lines(style, patient_name=CANARY, count=3)
    assert "Canary" not in line
    assert "patient_name" in line
    assert "3" in line


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("value", ["a\r\nb", "a\x0bb\x1cc", "a\u2028b", UnreadableInstanceError("a\nb"), ["a\nb"]])
def test_an_event_is_one_line_whatever_its_values_hold(style: str, value: object) -> None:
    (line,) = _lines(style, reason=value)
    assert "a" in line


def test_json_lines_name_module_level_and_time() -> None:
    (line,) = _lines("json", count=1)
    event = json.loads(line)
    assert (event["logger"], event["level"], event["event"]) == ("node.receive", "info", "object kept")
    assert event["timestamp"].endswith("Z")


@given(st.dictionaries(st.sampled_from(sorted(ALLOWED)), st.text() | st.lists(st.text()) | st.binary() | st.integers()))
def test_declared_values_are_printable_and_bounded(event: dict[str, object]) -> None:
    for value in keep_allowed(None, "info", event).values():
        assert not isinstance(value, str) or (value.isprintable() and len(value) <= LONGEST_VALUE)
        assert isinstance(value, str | int)


def test_a_level_below_the_asked_one_is_silent() -> None:
    written = io.StringIO()
    with redirect_stderr(written):
        configure_logging("warning", "text")
        structlog.get_logger("x").info("nothing")
    assert written.getvalue() == ""


@pytest.mark.parametrize(
    "library", ["pynetdicom.dimse", "pynetdicom.dul", "pydicom", "dbos", "sqlalchemy.engine", "alembic"]
)
def test_what_libraries_say_of_their_work_is_silent(library: str) -> None:
    configure_logging("debug", "text")
    assert not logging.getLogger(library).isEnabledFor(logging.WARNING)


class _FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    with redirect_stderr(_FullDisk()):
        configure_logging("info", "text")
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(structlog.get_logger("node.receive"), level)("object kept")


FAULTS = {
    "a warning": f"warnings.warn('Invalid value for VR PN: {CANARY}')",
    "the end of a thread": f"t = threading.Thread(target=lambda: int('{CANARY}')); t.start(); t.join()",
    "the end of the process": f"int('{CANARY}')",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_python_itself_quotes_no_value(fault: str) -> None:
    program = (
        "import threading, warnings\nfrom node.log import configure_logging, keep_values_out\n"
        f"configure_logging('debug', 'text')\nkeep_values_out()\n{FAULTS[fault]}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "Canary" not in done.stderr
    assert ("ValueError" in done.stderr) == (fault != "a warning")
