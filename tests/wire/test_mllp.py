"""ORU over MLLP to real listeners on loopback, good and bad."""

import contextlib
import functools
import socket
import threading
from dataclasses import replace
from pathlib import Path

import hl7
import pytest

from node.deliver import MllpConnection, build_oru, send_oru
from node.demo.ris import DemoRis
from node.errors import ConfigError, DeliveryError
from node.network.mllp import FrameDecoder, frame
from tests.peers.hl7 import npm_ris
from tests.peers.ris import Answer, BadRis, destination, refused_port
from tests.unit.deliver.statements import MADE_AT, ORDER, PATIENT, STATEMENT
from tests.wire.certificates import Certificates


@functools.cache
def message(control_id: str = "M-1", *, character_set: str = "UNICODE UTF-8") -> bytes:
    return build_oru(
        STATEMENT,
        patient=PATIENT,
        order=ORDER,
        destination=destination(1, character_set=character_set),
        message_control_id=control_id,
        sr_uids=(),
        sr_series_uid="",
        application_version="0.1.0",
        made_at=MADE_AT,
    )


@pytest.mark.parametrize("character_set", ["UNICODE UTF-8", "GB 18030-2000"])
def test_python_hl7_server_gets_the_stored_bytes_and_answers_aa(tmp_path: Path, character_set: str) -> None:
    sent = message(character_set=character_set)
    with DemoRis(tmp_path / "ris") as ris:
        assert send_oru(sent, destination(ris.port, character_set=character_set)) == "AA"
        assert ris.receipts() == [sent]


def test_received_message_says_what_was_found(tmp_path: Path) -> None:
    with DemoRis(tmp_path / "ris") as ris:
        send_oru(message(), destination(ris.port))
        received = hl7.parse(ris.receipts()[0])
    assert str(received.segment("OBR")[18]) == "A-77"
    assert str(received.segments("OBX")[0][5]) == "2.25.1001"
    assert str(received.segment("OBR")[25]) == "R"


def test_ris_that_comes_back_on_its_port_gets_the_message_that_waited(tmp_path: Path) -> None:
    ris = DemoRis(tmp_path / "ris")
    ris.start()
    with MllpConnection(destination(ris.port)) as connection:
        assert send_oru(message("M-1"), destination(ris.port), connection) == "AA"
        ris.stop()
        with pytest.raises(DeliveryError) as caught:
            send_oru(message("M-2"), destination(ris.port), connection)
        assert not caught.value.is_permanent
        ris.start()
        try:
            assert send_oru(message("M-2"), destination(ris.port), connection) == "AA"
        finally:
            ris.stop()
    assert ris.receipts() == [message("M-1"), message("M-2")]


@pytest.mark.parametrize(
    "answer",
    [
        Answer.ACCEPT,
        Answer.FOREIGN_THEN_OURS_IN_ONE_PACKET,
        Answer.SPLIT,
        Answer.WITHOUT_CARRIAGE_RETURN,
        Answer.LINE_FEEDS,
        Answer.NEWER_VERSION,
        Answer.GARBAGE_THEN_OURS,
    ],
)
def test_answer_is_found_in_whatever_form_it_comes(answer: Answer) -> None:
    with BadRis(answer) as ris:
        assert send_oru(message(), destination(ris.port)) == "AA"
        assert ris.messages == [message()]


def test_commit_accept_is_taken() -> None:
    with BadRis(Answer.COMMIT) as ris:
        assert send_oru(message(), destination(ris.port)) == "CA"


@pytest.mark.parametrize(
    ("answer", "code", "error", "is_permanent"),
    [
        (Answer.ERROR, "AE", "207", True),
        (Answer.COMMIT_ERROR, "CE", "101", True),
        (Answer.REJECT, "AR", "202", False),
        (Answer.COMMIT_REJECT, "CR", "M-1", False),
    ],
)
def test_error_is_a_dead_letter_and_reject_is_tried_again(
    answer: Answer, code: str, error: str, *, is_permanent: bool
) -> None:
    with BadRis(answer) as ris, pytest.raises(DeliveryError) as caught:
        send_oru(message(), destination(ris.port))
    assert caught.value.is_permanent is is_permanent
    assert code in str(caught.value)
    assert error in str(caught.value)
    assert "M-1" in str(caught.value)
    assert "demonstration" not in str(caught.value)  # words of the peer


@pytest.mark.parametrize("answer", [Answer.SILENCE, Answer.FOREIGN_ID, Answer.CLOSE_WITHOUT_ANSWER, Answer.ENDLESS])
def test_no_answer_of_ours_is_tried_again(answer: Answer) -> None:
    with BadRis(answer) as ris, pytest.raises(DeliveryError) as caught:
        send_oru(message(), destination(ris.port, ack_timeout_s=0.5))
    assert not caught.value.is_permanent
    assert "M-1" in str(caught.value)


def test_listener_that_never_accepts_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        with pytest.raises(DeliveryError, match="in time") as caught:
            send_oru(message(), destination(listener.getsockname()[1], ack_timeout_s=0.3))
        assert not caught.value.is_permanent


def test_refused_connection_is_tried_again_and_says_where() -> None:
    with refused_port() as port, pytest.raises(DeliveryError, match=f"port {port} cannot be reached") as caught:
        send_oru(message(), destination(port))
    assert not caught.value.is_permanent


def test_one_connection_carries_many_messages() -> None:
    with BadRis(Answer.ACCEPT) as ris, MllpConnection(destination(ris.port)) as connection:
        for number in range(5):
            assert send_oru(message(f"M-{number}"), destination(ris.port), connection) == "AA"
        assert (ris.connections_accepted, len(ris.messages)) == (1, 5)


def test_peer_that_closes_after_each_message_gets_every_message_once() -> None:
    with BadRis(Answer.ACCEPT_THEN_CLOSE) as ris, MllpConnection(destination(ris.port)) as connection:
        for number in range(4):
            assert send_oru(message(f"M-{number}"), destination(ris.port), connection) == "AA"
            assert ris.has_closed.wait(5)
            ris.has_closed.clear()
        assert ris.messages == [message(f"M-{number}") for number in range(4)]


def test_answer_that_came_twice_is_not_taken_for_the_next_message() -> None:
    with BadRis(Answer.ACCEPT_TWICE, Answer.REJECT) as ris, MllpConnection(destination(ris.port)) as connection:
        assert send_oru(message("M-1"), destination(ris.port), connection) == "AA"
        with pytest.raises(DeliveryError, match="AR"):
            send_oru(message("M-2"), destination(ris.port), connection)


def test_connection_is_new_after_a_failure_so_that_late_answers_are_lost() -> None:
    with BadRis(Answer.SILENCE, Answer.ACCEPT) as ris:
        to = destination(ris.port, ack_timeout_s=0.3)
        with MllpConnection(to) as connection:
            with pytest.raises(DeliveryError):
                send_oru(message(), to, connection)
            assert send_oru(message(), destination(ris.port), connection) == "AA"
        assert ris.connections_accepted == 2
        assert ris.messages == [message(), message()]


@functools.cache
def older(control_id: str = "M-1") -> bytes:
    """As `message`, in HL7 v2.3.1."""
    return build_oru(
        STATEMENT, patient=PATIENT, order=ORDER, destination=replace(destination(1), version="2.3.1"),
        message_control_id=control_id, sr_uids=(), sr_series_uid="", application_version="0.1.0", made_at=MADE_AT,
    )  # fmt: skip


def numbered(number: int) -> bytes:
    """The same message under another id; made once, because a thousand structures take a minute to check."""
    return message().replace(b"|M-1|", f"|M-{number}|".encode())


@pytest.mark.peer
@pytest.mark.parametrize("library", ["node-hl7-server", "simple-hl7"])
@pytest.mark.parametrize("make", [message, older], ids=["2.5.1", "2.3.1"])
def test_servers_from_npm_get_the_text_and_answer_aa(library: str, make: "functools._lru_cache_wrapper[bytes]") -> None:
    sent = make()
    with npm_ris(library) as ris:
        assert send_oru(sent, destination(ris.port)) == "AA"
        assert ris.next().rstrip("\r") == sent.decode().rstrip("\r")


@pytest.mark.peer
def test_server_from_npm_gets_a_thousand_messages_over_one_connection() -> None:
    with npm_ris("simple-hl7") as ris, MllpConnection(destination(ris.port)) as connection:
        for number in range(1000):
            assert send_oru(numbered(number), destination(ris.port), connection) == "AA"
        assert [ris.next().rstrip("\r") for _ in range(1000)] == [
            numbered(number).decode().rstrip("\r") for number in range(1000)
        ]


@pytest.mark.peer
def test_server_that_answers_earlier_messages_again_is_waited_for_until_it_answers_ours() -> None:
    """node-hl7-server 2.5.0 never empties its buffer, so it answers all that came before on a connection."""
    with npm_ris("node-hl7-server") as ris, MllpConnection(destination(ris.port)) as connection:
        for number in range(10):
            assert send_oru(numbered(number), destination(ris.port), connection) == "AA"


def test_a_thousand_messages_reach_python_hl7_over_one_connection(tmp_path: Path) -> None:
    with DemoRis(tmp_path / "ris") as ris, MllpConnection(destination(ris.port)) as connection:
        for number in range(1000):
            assert send_oru(numbered(number), destination(ris.port), connection) == "AA"
        assert ris.receipts() == [numbered(number) for number in range(1000)]


@pytest.mark.parametrize(
    "answer", [Answer.COMMIT_AND_ACCEPT_IN_ONE_PACKET, Answer.COMMIT_THEN_ACCEPT_BYTE_BY_BYTE, Answer.ACCEPT]
)
def test_enhanced_mode_waits_for_the_answer_of_the_application(answer: Answer) -> None:
    with BadRis(answer) as ris:
        to = replace(destination(ris.port), acknowledgement="enhanced")
        with MllpConnection(to) as connection:
            assert [send_oru(numbered(number), to, connection) for number in range(3)] == ["AA"] * 3
        assert ris.connections_accepted == 1


def test_enhanced_mode_commit_without_an_answer_of_the_application_is_tried_again() -> None:
    with BadRis(Answer.COMMIT) as ris, pytest.raises(DeliveryError, match="in time") as caught:
        send_oru(message(), replace(destination(ris.port, ack_timeout_s=0.4), acknowledgement="enhanced"))
    assert not caught.value.is_permanent


def test_enhanced_mode_error_after_a_commit_is_a_dead_letter() -> None:
    with BadRis(Answer.COMMIT_THEN_ERROR) as ris, pytest.raises(DeliveryError, match="AE") as caught:
        send_oru(message(), replace(destination(ris.port), acknowledgement="enhanced"))
    assert caught.value.is_permanent


def test_application_that_asks_for_a_commit_gets_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []

        def converse() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                decoder = FrameDecoder(1 << 20)
                while not decoder.feed(connection.recv(65536)):
                    pass
                said = b"MSH|^~\\&|RIS||W||20260101||ACK|R-9|P|2.5.1|||AL|NE\rMSA|AA|M-1\r"
                connection.sendall(frame(said))
                while not heard:
                    heard.extend(decoder.feed(connection.recv(65536)))

        thread = threading.Thread(target=converse, daemon=True)
        thread.start()
        to = replace(destination(listener.getsockname()[1]), acknowledgement="enhanced")
        assert send_oru(message(), to) == "AA"
        thread.join(10)
    assert [b"\rMSA|CA|R-9\r" in one for one in heard] == [True]


@pytest.mark.peer
def test_tls_is_spoken_with_a_server_of_other_makers(certificates: Certificates) -> None:
    with npm_ris("node-hl7-server", key=certificates.key("node"), certificate=certificates.certificate("node")) as ris:
        to = replace(
            destination(ris.port), host="localhost", tls=True, tls_authorities=certificates.certificate("authority")
        )
        assert send_oru(message(), to) == "AA"
        assert ris.next().startswith("MSH|^~\\&|WETREAD|")
        stranger = replace(to, tls_authorities=certificates.certificate("other"))
        with pytest.raises(DeliveryError, match="cannot be reached") as caught:
            send_oru(message(), stranger)
        assert not caught.value.is_permanent
        with pytest.raises(DeliveryError):
            send_oru(message(), replace(destination(ris.port), ack_timeout_s=1.0))  # without TLS


def test_missing_certificates_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"destinations\.ris.*tls_authorities"):
        MllpConnection(replace(destination(1), tls=True, tls_authorities="/nowhere.pem"))
