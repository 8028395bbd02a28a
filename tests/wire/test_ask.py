"""A sender is asked by C-FIND what it holds; one that refuses, hangs or lies costs no more than the time allowed."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from node.complete import Asker
from node.complete.ask import count_at
from node.errors import SenderError
from node.settings import CompleteSettings, Sender
from node.store.database import open_store
from node.store.gathering import open_studies
from tests.peers.orthanc import orthanc
from tests.unit.report.studies import mr_study
from tests.unit.rows import STUDY, Clock, arrive

STUDY_OF_PHANTOM = "2.25.100"


def _sender(port: int, *, timeout_s: float = 5.0) -> Sender:
    return Sender("CT1", "127.0.0.1", port, "ORTHANC", timeout_s)


@contextmanager
def _archive(answers: dict[str, Sequence[Dataset]], *, status: int = 0x0000) -> Iterator[int]:
    """A C-FIND SCP that answers each level as told."""
    ae = AE(ae_title="ORTHANC")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)

    def find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        for answer in answers.get(str(query.QueryRetrieveLevel), ()):
            of_series = query.get("SeriesInstanceUID", "")
            if query.QueryRetrieveLevel == "IMAGE" and answer.SeriesInstanceUID != of_series:
                continue
            yield 0xFF00, answer
        if status:
            yield status, None

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


def _match(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


IMAGES = [_match(SeriesInstanceUID=f"2.25.{series}", SOPInstanceUID=f"2.25.{series}.{number}")
          for series in (5, 6) for number in range(3)]  # fmt: skip
BARE_SERIES = [_match(SeriesInstanceUID="2.25.5"), _match(SeriesInstanceUID="2.25.6")]


@pytest.mark.peer
def test_orthanc_says_how_many_images_of_a_study_it_holds(tmp_path: Path) -> None:
    study = mr_study(tmp_path, slices=7)
    with orthanc(tmp_path / "orthanc") as pacs:
        rest = f"http://127.0.0.1:{pacs.http_port}"
        for instance in study.instances:
            requests.post(f"{rest}/instances", instance.path.read_bytes(), timeout=10).raise_for_status()
        node = {"AET": "WETREAD", "Host": "127.0.0.1", "Port": 104, "AllowFind": True}
        requests.put(f"{rest}/modalities/node", json=node, timeout=10).raise_for_status()
        sender = _sender(pacs.port)
        first = study.instances[0].sop_instance_uid
        assert count_at(sender, STUDY_OF_PHANTOM, calling_ae="WETREAD") == 7
        assert count_at(sender, STUDY_OF_PHANTOM, calling_ae="WETREAD", leave_out=frozenset({first, "2.25.8"})) == 6
        assert count_at(sender, "2.25.404", calling_ae="WETREAD") is None


def test_the_count_of_the_study_is_enough() -> None:
    with _archive({"STUDY": [_match(NumberOfStudyRelatedInstances=12)]}) as port:
        assert count_at(_sender(port), STUDY, calling_ae="WETREAD") == 12


def test_where_the_study_has_no_count_those_of_its_series_are_added() -> None:
    series = [_match(SeriesInstanceUID=f"2.25.{n}", NumberOfSeriesRelatedInstances=n) for n in (3, 4)]
    with _archive({"STUDY": [_match(StudyInstanceUID=STUDY)], "SERIES": series}) as port:
        assert count_at(_sender(port), STUDY, calling_ae="WETREAD") == 7


def test_where_nothing_has_a_count_the_images_are_counted_without_our_own_results() -> None:
    with _archive({"STUDY": [_match(StudyInstanceUID=STUDY)], "SERIES": BARE_SERIES, "IMAGE": IMAGES}) as port:
        assert count_at(_sender(port), STUDY, calling_ae="WETREAD") == 6
        assert count_at(_sender(port), STUDY, calling_ae="WETREAD", leave_out=frozenset({"2.25.5.0"})) == 5


def test_a_study_the_sender_does_not_know_has_no_count() -> None:
    with _archive({}) as port:
        assert count_at(_sender(port), STUDY, calling_ae="WETREAD") is None


@pytest.mark.parametrize("status", [0xA700, 0xC001, 0xFE00])
def test_a_sender_that_fails_says_so(status: int) -> None:
    with _archive({}, status=status) as port, pytest.raises(SenderError, match=f"0x{status:04X}"):
        count_at(_sender(port), STUDY, calling_ae="WETREAD")


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_sender_that_is_not_there_or_says_nothing_leaves_no_socket_open() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            closed = int(free.getsockname()[1])
        before, threads = _open_files(), threading.active_count()
        for port in (closed, int(silent.getsockname()[1])):
            for _ in range(2):
                with pytest.raises(SenderError, match="cannot be reached"):
                    count_at(_sender(port, timeout_s=0.2), STUDY, calling_ae="WETREAD")
        assert (_open_files(), threading.active_count()) == (before, threads)


def test_a_count_is_noted_and_a_silent_sender_is_told_of_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    store = open_store(tmp_path / "store", clock=clock)
    arrive(store, 1)
    clock.now += 60
    with _archive({"STUDY": [_match(NumberOfStudyRelatedInstances=2)]}) as port:
        settings = CompleteSettings(senders=(_sender(port, timeout_s=1),))
        asker = Asker(store, settings, "WETREAD")
        asker.ask()
        (study,) = open_studies(store, quiet_s=0, after_release_s=0)
        assert (study.expected_count, study.asked_at) == (2, clock.now)
    for number in (2, 3):
        arrive(store, number)
        clock.now += 60
        asker.ask()
        (study,) = open_studies(store, quiet_s=0, after_release_s=0)
        assert (study.expected_count, study.asked_at) == (None, clock.now)
    store.close()
    told = capsys.readouterr()
    assert (told.out + told.err).count("sender did not say what it holds") == 1
