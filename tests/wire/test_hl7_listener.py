"""The ear for orders with real senders, good and bad; whatever one does, the next honest one is served."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hl7.client import MLLPClient
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st

from node.deliver import MllpConnection, send_oru
from node.deliver.ack import Ack, parse_ack
from node.errors import DeliveryError
from node.front import start_listener
from node.network.mllp import FrameDecoder, frame
from node.process import read_ready, without_settings
from node.receive.hl7_listener import Hl7Listener, serve_hl7
from node.receive.orders import take_message
from node.settings import Hl7Destination, Hl7Settings, Settings
from node.store.database import Store, open_store
from node.store.orders import find_orders
from node.store.schema import HL7_MESSAGES
from tests.faults.running import wait_until
from tests.peers.hl7 import send_with_npm
from tests.peers.modality import free_port
from tests.wire.certificates import Certificates
from tests.wire.hl7_messages import adt, merge, omi, orm

Open = Callable[..., Hl7Listener]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    found.close()


@pytest.fixture
def listen(store: Store) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def begin(**keys: object) -> Hl7Listener:
            settings = Hl7Settings(**keys)  # type: ignore[arg-type]
            listener = serve_hl7(settings, partial(take_message, store, settings, lambda: True))
            stack.callback(listener.stop, drain_s=5)
            return listener

        yield begin


def is_served(listener: Hl7Listener, control_id: str) -> bool:
    with MLLPClient("127.0.0.1", listener.port) as client:
        return parse_ack(client.send_message(orm(control_id).decode()).strip(b"\x0b\x1c\r")).code == "AA"


def told(connection: socket.socket) -> Ack:
    """The next answer on a connection."""
    decoder = FrameDecoder(1 << 20)
    while True:
        data = connection.recv(65536)
        assert data, "closed without an answer"
        for answer in decoder.feed(data):
            return parse_ack(answer)


def count(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(HL7_MESSAGES)).scalar_one())


def test_python_hl7_client_is_answered_and_what_it_sent_is_kept(listen: Open, store: Store) -> None:
    listener = listen()
    with MLLPClient("127.0.0.1", listener.port) as client:
        for number, message in enumerate((orm("1"), omi("2"), adt("3"), merge("4")), start=1):
            answer = parse_ack(client.send_message(message.decode()).strip(b"\x0b\x1c\r"))
            assert (answer.code, answer.control_id) == ("AA", str(number))
    assert count(store) == 4
    assert len(find_orders(store, accession_number="A-77", patient_id="P-0042", issuer="HOSPITAL")) == 1


@pytest.mark.peer
@pytest.mark.parametrize("library", ["node-hl7-client", "simple-hl7"])
def test_clients_from_npm_are_answered(library: str, listen: Open, store: Store, tmp_path: Path) -> None:
    messages = [orm(f"N{number}", version="2.5.1") for number in range(5)]
    answers = send_with_npm(library, listen().port, messages, tmp_path, version="2.5.1")
    assert answers == [["AA", f"N{number}"] for number in range(5)]
    assert count(store) == 5


def test_a_thousand_messages_come_over_one_connection(listen: Open, store: Store) -> None:
    listener = listen()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as connection:
        for number in range(1000):
            connection.sendall(frame(adt(f"T{number}")))
            assert told(connection).control_id == f"T{number}"
        assert listener.open_connections == 1
    assert count(store) == 1000


def test_messages_that_share_a_packet_or_come_byte_by_byte_are_all_answered(listen: Open) -> None:
    listener = listen()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection:
        connection.sendall(frame(adt("1")) + b"noise" + frame(adt("2")))
        decoder, ids = FrameDecoder(65536), []
        while len(ids) < 2:
            ids += [parse_ack(one).control_id for one in decoder.feed(connection.recv(65536))]
        assert ids == ["1", "2"]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in frame(adt("3")):
            connection.sendall(bytes([byte]))
        assert told(connection).control_id == "3"


def test_enhanced_mode_gets_a_commit_and_an_application_answer(listen: Open) -> None:
    listener = listen()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection:
        connection.sendall(frame(orm(more="|||AL|AL||UNICODE UTF-8")))
        decoder, codes = FrameDecoder(65536), []
        while len(codes) < 2:
            codes += [parse_ack(one).code for one in decoder.feed(connection.recv(65536))]
    assert codes == ["CA", "AA"]


def test_stranger_is_turned_away_and_a_friend_is_served(listen: Open) -> None:
    stranger, friend = listen(allowed_peers=("10.0.0.0/8",)), listen()
    with socket.create_connection(("127.0.0.1", stranger.port), timeout=10) as connection:
        assert connection.recv(1) == b""
    assert is_served(friend, "1")


def test_one_connection_too_many_is_closed_and_the_others_go_on(listen: Open) -> None:
    listener = listen(max_connections_per_address=2)
    with contextlib.ExitStack() as stack:
        two = [
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=10)) for _ in range(2)
        ]
        for number, connection in enumerate(two):
            connection.sendall(frame(adt(str(number))))
            told(connection)
        with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as third:
            assert third.recv(1) == b""
        two[0].sendall(frame(adt("again")))
        assert told(two[0]).code == "AA"


@pytest.mark.parametrize("said", [b"", b"\x0b", b"\x0bMSH|^~\\&|half", b"GET / HTTP/1.1\r\n\r\n"])
def test_who_never_finishes_a_message_loses_the_place(said: bytes, listen: Open) -> None:
    listener = listen(message_timeout_s=0.3, max_connections=1)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection:
        connection.sendall(said)
        assert connection.recv(1) == b""
    assert is_served(listener, "1")


def test_a_message_that_is_too_long_ends_the_connection(listen: Open) -> None:
    listener = listen(max_message_kb=16)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection, contextlib.suppress(OSError):
        connection.sendall(b"\x0b" + b"x" * (1 << 20))
        assert connection.recv(1) == b""
    assert is_served(listener, "1")


def test_a_connection_between_messages_may_be_silent_and_ends_when_the_node_stops(listen: Open) -> None:
    listener = listen(message_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection:
        connection.sendall(frame(adt("1")))
        told(connection)
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)
        connection.sendall(frame(adt("2")))
        assert told(connection).code == "AA"
        listener.stop(drain_s=5)
        assert connection.recv(1) == b""
    assert listener.open_connections == 0


@how(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=80) | st.just(b"\x0b") | st.just(b"\x1c\r") | st.just(orm("F")), max_size=6))
def test_whatever_is_sent_an_honest_sender_is_served_after_it(pieces: list[bytes]) -> None:
    listener = LISTENER[0]
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection, contextlib.suppress(OSError):
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert is_served(listener, "honest")


LISTENER: list[Hl7Listener] = []


@pytest.fixture(autouse=True)
def _fuzzed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """One listener for all examples of the fuzz test."""
    if "whatever_is_sent" not in request.node.name:
        yield
        return
    store, settings = open_store(tmp_path / "fuzzed"), Hl7Settings(message_timeout_s=2)
    LISTENER.append(serve_hl7(settings, partial(take_message, store, settings, lambda: True)))
    yield
    LISTENER.pop().stop(drain_s=5)
    store.close()


def test_tls_is_spoken_with_a_client_whose_certificate_is_asked_for(listen: Open, certificates: Certificates) -> None:
    listener = listen(
        tls=True, tls_certificate=certificates.certificate("node"), tls_key=certificates.key("node"),
        tls_authorities=certificates.certificate("authority"), message_timeout_s=5,
    )  # fmt: skip
    to = Hl7Destination(
        "node", "localhost", listener.port, tls=True, tls_authorities=certificates.certificate("authority"),
        tls_certificate=certificates.certificate("ct1"), tls_key=certificates.key("ct1"), ack_timeout_s=5,
    )  # fmt: skip
    with MllpConnection(to) as connection:
        for number in range(3):
            assert send_oru(orm(str(number)), to, connection) == "AA"


@pytest.mark.parametrize("name", ["", "forged"])
def test_tls_client_without_a_good_certificate_is_told_nothing(
    name: str, listen: Open, certificates: Certificates, store: Store
) -> None:
    listener = listen(
        tls=True, tls_certificate=certificates.certificate("node"), tls_key=certificates.key("node"),
        tls_authorities=certificates.certificate("authority"), message_timeout_s=5,
    )  # fmt: skip
    heard = b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("localhost", listener.port), timeout=5) as plain,
        certificates.client(name).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(frame(orm()))
        heard = connection.recv(1)
    assert (heard, count(store)) == (b"", 0)


def test_plain_words_to_a_tls_port_end_only_themselves(listen: Open, certificates: Certificates) -> None:
    listener = listen(
        tls=True, tls_certificate=certificates.certificate("node"), tls_key=certificates.key("node"),
        message_timeout_s=5,
    )  # fmt: skip
    plain = Hl7Destination("node", "127.0.0.1", listener.port, ack_timeout_s=2)
    with pytest.raises(DeliveryError):
        send_oru(orm(), plain)
    with (
        socket.create_connection(("localhost", listener.port), timeout=5) as connection,
        certificates.client().wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        secured.sendall(frame(orm()))
        assert told(secured).code == "AA"


def test_nobody_is_listened_to_without_a_port(store: Store) -> None:
    assert start_listener(Settings(), store) is None


def test_what_was_accepted_is_there_after_the_receiver_was_killed(tmp_path: Path) -> None:
    port, root = free_port(), tmp_path / "store"
    (tmp_path / "config.toml").write_text(
        f"[dicom]\nport = 0\n[store]\nrefuse_below_free_mb = 0\n[hl7]\nport = {port}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "node.roles", "receiver", "--site", str(tmp_path), "--parent", str(os.getpid())]
    process = subprocess.Popen(command, env=without_settings(os.environ), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: bool(read_ready(root / "run", "receiver")), timeout_s=60, what="the receiver is ready")
        with MLLPClient("127.0.0.1", port) as client:
            answer = client.send_message(orm().decode())
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait(30)
    assert b"MSA|AA|M-1" in answer
    with contextlib.closing(open_store(root)) as store:
        assert len(find_orders(store, accession_number="A-77", patient_id="P-0042", issuer="")) == 1
