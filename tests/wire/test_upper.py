"""The receiver on our own upper layer, asked by honest senders and by every bad one we know of.

Each hostile act is followed by the same question: are a C-ECHO and an honest sender still served?
"""

import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import dcmread
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, build_context
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation

from node.network.dimse import Command, Kind
from node.network.items import PresentationContext, UserInformation
from node.network.negotiation import is_storage_class
from node.network.pdu import AssociateRequest, data_head, encode_pdu
from node.receive.landing import LOOK_AT_DISK_BYTES
from node.receive.spool import Answer, Incoming
from node.receive.upper import UpperReceiver, serve
from node.settings import DicomSettings, Peer
from tests.peers.modality import send_with_dcmtk, send_with_pynetdicom
from tests.unit.network.conversations import VERIFICATION, message

PATIENT = DicomSettings(port=0, acse_timeout_s=5, network_timeout_s=10)
SHORT_OF_TIME = replace(PATIENT, acse_timeout_s=1.0, network_timeout_s=1.0)
PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"  # Siemens CSA Non-Image Storage
LIMIT_S = 8.0
CT_CONTEXT = build_context(CTImageStorage, [ExplicitVRLittleEndian])
P_DATA_HEAD = b"\x04\0"
ABORT_HEAD, REJECT_HEAD, ACCEPT_HEAD = b"\x07\0", b"\x03\0", b"\x02\0"
REQUEST = encode_pdu(
    AssociateRequest(
        "WETREAD",
        "BAD",
        (
            PresentationContext(1, VERIFICATION, (str(ImplicitVRLittleEndian),)),
            PresentationContext(3, str(CTImageStorage), (str(ExplicitVRLittleEndian),)),
        ),
        UserInformation(16384, "1.2.3", "BAD"),
    )
)


@dataclass
class Node:
    """A receiver, and what it handed on."""

    incoming: Path
    receiver: UpperReceiver
    objects: dict[str, bytes] = field(default_factory=dict)
    taken: list[Incoming] = field(default_factory=list)
    released: list[list[str]] = field(default_factory=list)
    is_roomy: bool = True

    @property
    def port(self) -> int:
        return self.receiver.port

    def leftovers(self) -> list[Path]:
        return list(self.incoming.iterdir())


@contextmanager
def opened(
    folder: Path, settings: DicomSettings = PATIENT, accept: Callable[[Incoming], Answer] | None = None
) -> Iterator[Node]:
    incoming = folder / "incoming"
    incoming.mkdir()

    def keep(one: Incoming) -> Answer:
        node.taken.append(one)
        if accept is not None:
            return accept(one)
        node.objects[one.sop_instance_uid] = one.path.read_bytes()
        one.path.unlink()
        return Answer(0x0000, study_instance_uid=f"study of {one.calling_ae}")

    released: list[list[str]] = []
    receiver = serve(
        settings,
        incoming,
        accept=keep,
        released=released.append,
        has_room=lambda: node.is_roomy,
    )
    node = Node(incoming, receiver, released=released)
    try:
        yield node
    finally:
        receiver.stop(drain_s=LIMIT_S)
        until(lambda: not {"association", "entrance"} & {thread.name for thread in threading.enumerate()})
        assert node.leftovers() == []


@pytest.fixture(scope="module")
def ct_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    shutil.copy(str(get_testdata_file("CT_small.dcm")), folder / "a.dcm")
    return folder


def serves(node: Node, folder: Path) -> None:
    """Fail unless an honest sender can echo and store."""
    ae = AE("GOOD")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = LIMIT_S
    assoc = ae.associate("127.0.0.1", node.port, contexts=[build_context(VERIFICATION)])
    assert assoc.is_established
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert send_with_pynetdicom(folder, node.port, calling_ae="GOOD") == {"a.dcm": 0x0000}


def until(claim: Callable[[], bool]) -> None:
    """Wait for another thread, but not for ever."""
    deadline = time.monotonic() + LIMIT_S
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Bad:
    """A raw connection that says what it likes."""

    def __init__(self, node: Node, *said: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=LIMIT_S)
        for data in said:
            self.socket.sendall(data)

    def __enter__(self) -> "Bad":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hears(self) -> bytes:
        """The next whole PDU, or nothing if the node has closed."""
        head = self._exactly(6)
        return head + self._exactly(struct.unpack(">I", head[2:])[0]) if head else b""

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            try:
                part = self.socket.recv(count - len(found))
            except ConnectionResetError:
                return b""
            if not part:
                return b""
            found += part
        return found

    def comes_in(self) -> "Bad":
        self.socket.sendall(REQUEST)
        assert self.hears().startswith(ACCEPT_HEAD)
        return self

    def reset(self) -> None:
        """Close so that the node is told with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def store(number: int, dataset: bytes, *, instance: str = "", context_id: int = 3) -> bytes:
    command = Command(
        Kind.STORE_REQUEST,
        number,
        has_dataset=True,
        sop_class_uid=str(CTImageStorage),
        sop_instance_uid=instance or f"2.25.{number}",
    )
    return message(context_id, command, dataset)


def half_a_store() -> bytes:
    """A command, one whole fragment and half of the next."""
    return store(1, bytes(40_000))[:30_000]


# Honest senders.


@pytest.mark.filterwarnings("ignore:Expected explicit VR")  # pydicom, of SC_rgb_jpeg.dcm
def test_every_syntax_arrives_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    names = ("ExplVR_BigEnd.dcm", "CT_small.dcm", "693_J2KR.dcm", "SC_rgb_rle.dcm", "SC_rgb_jpeg.dcm", "JPEG2000.dcm")
    for name in names:
        shutil.copy(str(get_testdata_file(name)), folder / name)
    with opened(tmp_path) as node:
        assert set(send_with_pynetdicom(folder, node.port).values()) == {0x0000}
    for name in names:
        ds = dcmread(folder / name)
        kept = node.objects[ds.SOPInstanceUID]
        sent = (folder / name).read_bytes()
        start = 144 + struct.unpack_from("<I", sent, 140)[0]
        assert kept[144 + struct.unpack_from("<I", kept, 140)[0] :] == sent[start:]
        (tmp_path / "kept.dcm").write_bytes(kept)
        assert dcmread(tmp_path / "kept.dcm").file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
    assert node.released == [["study of CT1"]]
    assert {one.calling_ae for one in node.taken} == {"CT1"}


@pytest.mark.peer
def test_dcmtk_can_echo_and_store(tmp_path: Path, ct_folder: Path) -> None:
    echoscu = shutil.which("echoscu")
    if echoscu is None:
        pytest.skip("DCMTK's echoscu is not installed")
    with opened(tmp_path) as node:
        done = subprocess.run(
            [echoscu, "-aec", "WETREAD", "--repeat", "3", "127.0.0.1", str(node.port)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        code, statuses = send_with_dcmtk(ct_folder, node.port)
        assert (code, set(statuses)) == (0, {0})
        code, _ = send_with_dcmtk(ct_folder, node.port, options=("--max-send-pdu", "4096"))
        assert code == 0
    assert len(node.taken) == 2
    assert node.released == [["study of MR1"]] * 2


@pytest.mark.peer
def test_dcmtk_may_abort_instead_of_releasing(tmp_path: Path, ct_folder: Path) -> None:
    echoscu = shutil.which("echoscu")
    if echoscu is None:
        pytest.skip("DCMTK's echoscu is not installed")
    with opened(tmp_path) as node:
        subprocess.run([echoscu, "--abort", "127.0.0.1", str(node.port)], timeout=30, check=True)
        serves(node, ct_folder)


def test_a_sender_with_small_pdus_gets_its_answers(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node:
        ae = AE("SMALL")
        ae.maximum_pdu_size = 64
        assoc = ae.associate("127.0.0.1", node.port, contexts=[CT_CONTEXT])
        assert assoc.send_c_store(ct_folder / "a.dcm").Status == 0x0000
        assoc.release()


def test_the_spools_answer_is_the_senders_answer(tmp_path: Path, ct_folder: Path) -> None:
    def refuse(one: Incoming) -> Answer:
        one.path.unlink()
        return Answer(0xC000, "the dataset is truncated")

    with opened(tmp_path, accept=refuse) as node:
        assoc = AE("CT1").associate("127.0.0.1", node.port, contexts=[CT_CONTEXT])
        answer = assoc.send_c_store(ct_folder / "a.dcm")
        assoc.release()
    assert (answer.Status, answer.ErrorComment) == (0xC000, "the dataset is truncated")
    assert node.released == []


def test_a_private_sop_class_is_taken_or_refused_by_configuration(tmp_path: Path) -> None:
    declared = SOPClassCommonExtendedNegotiation()
    declared.sop_class_uid, declared.service_class_uid = PRIVATE_CLASS, "1.2.840.10008.4.2"
    with opened(tmp_path, replace(PATIENT, accept_private_sop_classes=False)) as node:
        contexts = [build_context(PRIVATE_CLASS), build_context(VERIFICATION)]
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=contexts)
        assert [str(context.abstract_syntax) for context in assoc.rejected_contexts] == [PRIVATE_CLASS]
        assoc.release()
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=contexts, ext_neg=[declared])
        assert assoc.rejected_contexts == []
        assoc.release()
    (tmp_path / "2").mkdir()
    with opened(tmp_path / "2") as node:
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=[build_context(PRIVATE_CLASS)])
        assert assoc.is_established
        assoc.release()


def test_a_deflated_syntax_and_a_query_service_are_not_offered(tmp_path: Path) -> None:
    find = "1.2.840.10008.5.1.4.1.2.2.1"
    contexts = [
        build_context(CTImageStorage, [DeflatedExplicitVRLittleEndian]),
        build_context(find),
        build_context(VERIFICATION),
    ]
    with opened(tmp_path) as node:
        assoc = AE("X").associate("127.0.0.1", node.port, contexts=contexts)
        results = {str(context.abstract_syntax): context.result for context in assoc.rejected_contexts}
        assoc.release()
    assert results == {str(CTImageStorage): 4, find: 3}


def test_every_storage_class_pynetdicom_knows_is_taken() -> None:
    assert all(is_storage_class(str(context.abstract_syntax)) for context in AllStoragePresentationContexts)
    for other in ("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.20.1", "1.2.840.10008.5.1.4.1.1.200.4", VERIFICATION):
        assert not is_storage_class(other)


def test_a_service_that_is_not_ours_gets_a_status(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(message(3, Command(0x0020, 1, has_dataset=True, sop_class_uid="1.2"), b"abcd"))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x11\x02" in peer.hears()
        peer.socket.sendall(store(2, b"abcd", context_id=1))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x22\x01" in peer.hears()
        serves(node, ct_folder)


# Who may come in.


def test_only_allowed_peers_come_in(tmp_path: Path, ct_folder: Path) -> None:
    settings = replace(PATIENT, allowed_peers=(Peer("GOOD", "127.0.0.1"), Peer("*", "10.0.0.0/8")))
    with opened(tmp_path, settings) as node:
        with Bad(node, REQUEST) as bad:
            assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x01\x01\x03"
        serves(node, ct_folder)


def test_a_strange_address_is_refused_at_its_first_byte_and_gets_no_thread(tmp_path: Path) -> None:
    with opened(tmp_path, replace(PATIENT, allowed_peers=(Peer("*", "10.0.0.0/8"),))) as node:
        threads = threading.active_count()
        with Bad(node, REQUEST[:1]) as bad, Bad(node) as silent:
            assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x01\x01\x03"
            assert silent.hears() == b""
            assert threading.active_count() == threads


@pytest.mark.peer
def test_dcmtk_understands_a_refusal_at_the_door(tmp_path: Path) -> None:
    echoscu = shutil.which("echoscu")
    if echoscu is None:
        pytest.skip("DCMTK's echoscu is not installed")
    with opened(tmp_path, replace(PATIENT, allowed_peers=(Peer("*", "10.0.0.0/8"),))) as node:
        command = [echoscu, "127.0.0.1", str(node.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert "Calling AE Title Not Recognized" in done.stderr


def test_an_ipv4_peer_of_a_socket_for_both_families_is_known(tmp_path: Path, ct_folder: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    settings = replace(PATIENT, host="::", allowed_peers=(Peer("GOOD", "127.0.0.0/8"),))
    assert ipaddress.ip_address("::ffff:127.0.0.1").version == 6
    with opened(tmp_path, settings) as node:
        serves(node, ct_folder)


@pytest.mark.parametrize("cap", ["max_associations", "max_associations_per_address"])
def test_one_too_many_is_refused_and_served_when_there_is_room(tmp_path: Path, ct_folder: Path, cap: str) -> None:
    with opened(tmp_path, replace(PATIENT, **{cap: 3})) as node:
        with ExitStack() as stack:
            inside = [stack.enter_context(Bad(node).comes_in()) for _ in range(3)]
            before = threading.active_count()
            for _ in range(200):
                with Bad(node, REQUEST) as bad:
                    assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x02\x03\x02"
            assert threading.active_count() == before
            for peer in inside:
                peer.socket.sendall(message(1, Command(Kind.ECHO_REQUEST, 1, sop_class_uid=VERIFICATION)))
                assert peer.hears().startswith(P_DATA_HEAD)
        until(lambda: not node.receiver.associations.inside)
        serves(node, ct_folder)


def test_a_full_disk_refuses_associations_and_objects_as_transient(tmp_path: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as inside:
        node.is_roomy = False
        with Bad(node, REQUEST) as bad:
            assert bad.hears() == REJECT_HEAD + b"\0\0\0\x04\0\x02\x03\x02"
        inside.socket.sendall(store(1, bytes(50_000)))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xa7" in inside.hears()
        assert node.leftovers() == []
        assert node.taken == []


def test_a_disk_that_fills_up_in_the_middle_of_an_object_ends_in_a_status(tmp_path: Path, ct_folder: Path) -> None:
    fragment = data_head(3, 16378, is_command=False, is_last=False) + bytes(16378)
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        command = Command(Kind.STORE_REQUEST, 1, has_dataset=True, sop_class_uid="1.2", sop_instance_uid="1.3")
        peer.socket.sendall(message(3, command))
        peer.socket.sendall(fragment)
        until(lambda: len(node.leftovers()) == 1)
        node.is_roomy = False
        for _ in range(LOOK_AT_DISK_BYTES // 16378 + 10):
            peer.socket.sendall(fragment)
        until(lambda: not node.leftovers())
        peer.socket.sendall(data_head(3, 0, is_command=False, is_last=True))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xa7" in peer.hears()


def test_a_folder_that_cannot_be_written_ends_in_a_status(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        node.incoming.rmdir()
        peer.socket.sendall(store(1, bytes(50_000)))
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\xa7" in peer.hears()
        node.incoming.mkdir()
        serves(node, ct_folder)


# Those that are slow, or say nothing.


def test_senders_that_stop_after_60_bytes_are_cut_and_do_not_lock_the_door(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, ExitStack() as stack:
        stalled = [stack.enter_context(Bad(node, REQUEST[:60])) for _ in range(20)]
        serves(node, ct_folder)
        assert all(bad.hears() == b"" for bad in stalled)
        serves(node, ct_folder)


def test_silent_connections_are_capped_and_cut(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, ExitStack() as stack:
        threads = threading.active_count()
        silent = [stack.enter_context(Bad(node)) for _ in range(200)]
        assert threading.active_count() <= threads + SHORT_OF_TIME.max_associations_per_address
        assert all(bad.hears() == b"" for bad in silent)
        serves(node, ct_folder)


def test_a_request_that_drips_is_cut_at_its_deadline(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node) as bad:
        assert drips(bad, REQUEST)
        serves(node, ct_folder)


def test_an_idle_association_is_aborted_at_its_limit(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node).comes_in() as idle:
        serves(node, ct_folder)
        assert idle.hears().startswith(ABORT_HEAD)
        assert idle.hears() == b""


def test_a_sender_that_stalls_inside_an_object_is_cut_and_leaves_nothing(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node).comes_in() as stalled:
        stalled.socket.sendall(half_a_store())
        until(lambda: len(node.leftovers()) == 1)
        serves(node, ct_folder)
        assert stalled.hears().startswith(ABORT_HEAD)
        until(lambda: not node.leftovers())


def test_a_sender_of_single_bytes_is_cut_and_leaves_nothing(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path, SHORT_OF_TIME) as node, Bad(node).comes_in() as slow:
        slow.socket.sendall(half_a_store())
        assert drips(slow, bytes(1000))
        until(lambda: not node.leftovers())
        serves(node, ct_folder)


def drips(bad: Bad, data: bytes) -> bool:
    """Send one byte at a time, 20 a second, until the node has had enough."""
    bad.socket.settimeout(0.05)
    for place in range(len(data)):
        try:
            bad.socket.sendall(data[place : place + 1])
            bad.socket.recv(100)
        except TimeoutError:
            continue
        except OSError:
            return True
        return True
    return False


# Those that break off, or break the rules.


def test_connections_that_close_at_once_leave_nothing_behind(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node:
        serves(node, ct_folder)
        until(lambda: not node.receiver.associations.inside)
        descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
        for number in range(400):
            bad = Bad(node)
            bad.reset() if number % 2 else bad.socket.close()
        until(lambda: lets_in(node))
        serves(node, ct_folder)
        until(lambda: threading.active_count() <= threads)
        until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)  # noqa: PTH208


def lets_in(node: Node) -> bool:
    """Whether the node has a place for one more from here; it frees them in the order in which they came."""
    with Bad(node, REQUEST) as peer:
        return peer.hears().startswith(ACCEPT_HEAD)


HOSTILE = {
    "an A-ASSOCIATE-RQ of 4 GiB": (False, struct.pack(">BxI", 1, 2**32 - 1)),
    "a PDU of 4 GiB": (True, struct.pack(">BxI", 4, 2**32 - 1)),
    "a PDU one byte longer than was negotiated": (True, struct.pack(">BxI", 4, PATIENT.max_pdu_bytes + 1)),
    "a fragment longer than its PDU": (True, struct.pack(">BxIIBB", 4, 100, 2**32 - 1, 3, 0)),
    "an unknown PDU": (True, struct.pack(">BxI", 9, 4)),
    "a web browser": (False, b"GET / HTTP/1.1\r\nHost: wetread\r\n\r\n"),
    "a TLS client": (False, bytes.fromhex("160301020001000001fc0303")),
    "data before the request": (False, store(1, b"abcd")),
    "a second request": (True, REQUEST),
    "a dataset without a command": (True, data_head(3, 4, is_command=False, is_last=True) + b"abcd"),
    "a command without an end": (True, (data_head(3, 9000, is_command=True, is_last=False) + bytes(9000)) * 20),
    "a context that was not accepted": (True, store(1, b"abcd", context_id=9)),
    "a second object before the answer": (True, store(1, b"abcd") + store(2, b"abcd")),
    "200 objects before an answer": (True, b"".join(store(number, bytes(2000)) for number in range(1, 201))),
    "a release inside an object": (
        True,
        store(1, bytes(40_000))[: -(40_000 - 16_378) - 24] + struct.pack(">BxII", 5, 4, 0),
    ),
    "an answer to nothing": (True, message(1, Command(Kind.ECHO_RESPONSE, 1, status=0))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_breach_of_the_rules_is_aborted(tmp_path: Path, ct_folder: Path, name: str) -> None:
    is_inside, said = HOSTILE[name]
    with opened(tmp_path) as node, Bad(node) as bad:
        if is_inside:
            bad.comes_in()
        bad.socket.sendall(said)
        assert bad.hears().startswith(ABORT_HEAD)
        until(lambda: not node.leftovers())
        serves(node, ct_folder)
    assert len(node.taken) == 1


@pytest.mark.parametrize("ending", ["abort", "close", "reset"])
def test_an_object_that_breaks_off_leaves_nothing(tmp_path: Path, ct_folder: Path, ending: str) -> None:
    with opened(tmp_path) as node:
        bad = Bad(node).comes_in()
        bad.socket.sendall(store(1, bytes(100)))
        assert bad.hears().startswith(P_DATA_HEAD)
        bad.socket.sendall(half_a_store())
        until(lambda: len(node.leftovers()) == 1)
        if ending == "abort":
            bad.socket.sendall(b"\x07\0\0\0\0\x04\0\0\0\0")
        elif ending == "reset":
            bad.reset()
        bad.socket.close()
        until(lambda: not node.leftovers())
        until(lambda: not node.receiver.associations.inside)
        assert node.released == []  # its sender will come again
        serves(node, ct_folder)


def test_no_word_of_a_peer_becomes_a_path(tmp_path: Path, ct_folder: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as bad:
        for number, name in enumerate(("../../../tmp/x", "/etc/passwd", "1.2\0.3", "é" * 70, "")):
            bad.socket.sendall(store(number, b"abcd", instance=name or " "))
            assert bad.hears().startswith(P_DATA_HEAD)
        assert {one.path.parent for one in node.taken} == {node.incoming}
        assert node.taken[0].sop_instance_uid == "../../../tmp/x"
        serves(node, ct_folder)


def test_an_error_of_ours_ends_one_association_only(
    tmp_path: Path, ct_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: ended.append(failed.exc_type))
    broken = threading.Event()
    broken.set()

    def fail_once(one: Incoming) -> Answer:
        if broken.is_set():
            broken.clear()
            raise ZeroDivisionError
        one.path.unlink()
        return Answer(0)

    with opened(tmp_path, accept=fail_once) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(store(1, b"abcd"))
        assert peer.hears().startswith(ABORT_HEAD)
        until(lambda: not node.leftovers())
        serves(node, ct_folder)
    assert ended == [ZeroDivisionError]


# Studies and the end.


def test_a_study_is_released_when_the_last_association_that_touches_it_is(tmp_path: Path) -> None:
    release = b"\x05\0\0\0\0\x04\0\0\0\0"
    with opened(tmp_path) as node, Bad(node).comes_in() as first, Bad(node).comes_in() as second:
        for peer in (first, second):
            peer.socket.sendall(store(1, b"abcd"))
            assert peer.hears().startswith(P_DATA_HEAD)
        first.socket.sendall(release)
        assert first.hears().startswith(b"\x06\0")
        assert first.hears() == b""
        assert node.released == []
        second.socket.sendall(release)
        assert second.hears().startswith(b"\x06\0")
        until(lambda: node.released == [["study of BAD"]])


def test_stopping_lets_an_object_finish_and_refuses_new_ones(tmp_path: Path) -> None:
    data = store(1, bytes(40_000))
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(data[:20_000])
        until(lambda: len(node.leftovers()) == 1)
        stopping = threading.Thread(target=node.receiver.stop, kwargs={"drain_s": LIMIT_S})
        stopping.start()
        until(lambda: "entrance" not in {thread.name for thread in threading.enumerate()})
        with pytest.raises(ConnectionRefusedError):
            Bad(node)
        peer.socket.sendall(data[20_000:])
        assert peer.hears().startswith(P_DATA_HEAD)
        peer.socket.sendall(b"\x05\0\0\0\0\x04\0\0\0\0")
        assert peer.hears().startswith(b"\x06\0")
        peer.socket.close()
        stopping.join(LIMIT_S)
        assert not stopping.is_alive()
        assert len(node.taken) == 1


def test_stopping_aborts_what_does_not_end(tmp_path: Path) -> None:
    with opened(tmp_path) as node, Bad(node).comes_in() as peer, Bad(node).comes_in() as idle:
        peer.socket.sendall(half_a_store())
        until(lambda: len(node.leftovers()) == 1)
        node.receiver.stop(drain_s=0.05)
        assert node.leftovers() == []
        assert peer.hears().startswith(ABORT_HEAD)
        assert idle.hears().startswith(ABORT_HEAD)


def test_stopping_ends_a_sender_that_never_pauses(tmp_path: Path) -> None:
    fragment = data_head(3, 16378, is_command=False, is_last=False) + bytes(16378)
    with opened(tmp_path) as node, Bad(node).comes_in() as peer:
        peer.socket.sendall(store(1, bytes(40_000))[:-7256])

        def send_on() -> None:
            try:
                while True:
                    peer.socket.sendall(fragment)
            except OSError:
                return

        sending = threading.Thread(target=send_on)
        sending.start()
        until(lambda: len(node.leftovers()) == 1)
        node.receiver.stop(drain_s=0.05)
        assert node.leftovers() == []
        sending.join(LIMIT_S)
        assert not sending.is_alive()


def test_an_address_that_is_taken_is_an_error_unless_it_is_shared(tmp_path: Path) -> None:
    with opened(tmp_path) as node, pytest.raises(OSError, match="in use"):
        serve(
            replace(PATIENT, port=node.port),
            tmp_path,
            accept=lambda _: Answer(0),
            released=lambda _: None,
            has_room=lambda: True,
        )


def test_two_receivers_share_a_port(tmp_path: Path, ct_folder: Path) -> None:
    (tmp_path / "incoming").mkdir()
    taken: list[Path] = []

    def start(port: int) -> UpperReceiver:
        return serve(
            replace(PATIENT, port=port),
            tmp_path / "incoming",
            accept=lambda one: taken.append(one.path) or one.path.unlink() or Answer(0),
            released=lambda _: None,
            has_room=lambda: True,
            shares_port=True,
        )

    first = start(0)
    second = start(first.port)
    for _ in range(8):
        assert send_with_pynetdicom(ct_folder, first.port) == {"a.dcm": 0}
    first.stop(drain_s=1)
    assert send_with_pynetdicom(ct_folder, second.port) == {"a.dcm": 0}
    second.stop(drain_s=1)
    assert len(taken) == 9
