"""TLS at the front door: who has the right certificate is served, whoever else is told no, and nobody waits for it."""

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.filereader import dcmread
from pynetdicom import AE
from typer.testing import CliRunner

from node.cli.commands import app
from node.errors import ConfigError
from node.network.tls import client_context, server_context
from node.receive import door
from node.receive.spool import Answer
from node.settings import DicomSettings, Peer
from tests.peers.modality import free_port, send_with_dcmtk
from tests.wire.certificates import Certificates
from tests.wire.front_door import (
    ABORT_HEAD,
    ACCEPT_HEAD,
    CT_CONTEXT,
    LIMIT_S,
    P_DATA_HEAD,
    PATIENT,
    REJECT_HEAD,
    REQUEST,
    Bad,
    Node,
    half_a_store,
    opened,
    serves,
    store,
    until,
)

NOT_KNOWN = REJECT_HEAD + b"\0\0\0\x04\0\x01\x01\x03"
ALERT = b"\x15\x03"  # RFC 8446 5.1: the head of an alert record
OLD = {
    "TLS 1.1": (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
    "no forward secrecy": (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"),
    "no authenticated encryption": (ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-SHA256"),
}


@pytest.fixture
def settings(certificates: Certificates) -> DicomSettings:
    """A plain port, and one for TLS on which every client must show a certificate of the authority."""
    return replace(
        PATIENT,
        tls_port=free_port(),
        tls_certificate=certificates.certificate("node"),
        tls_key=certificates.key("node"),
        tls_authorities=certificates.certificate("authority"),
    )


def dataset_of(content: bytes) -> bytes:
    """What follows the file meta information of a Part 10 file."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


def serves_tls(node: Node, folder: Path, context: ssl.SSLContext) -> None:
    """Fail unless an honest sender can store over TLS."""
    node.objects.clear()
    ae = AE("GOOD")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = LIMIT_S
    port = node.receiver.tls_port
    assoc = ae.associate("127.0.0.1", port, contexts=[CT_CONTEXT], tls_args=(context, "localhost"))
    assert assoc.is_established
    assert assoc.send_c_store(folder / "a.dcm").Status == 0x0000
    assoc.release()
    assert dcmread(folder / "a.dcm").SOPInstanceUID in node.objects


def is_refused(act: Callable[[], Bad]) -> bool:
    """Whether a TLS client is turned away; with TLS 1.3 it is told so only after it has finished its handshake."""
    try:
        with act() as bad:
            return not bad.hears()
    except OSError:
        return True


# Honest senders.


@pytest.mark.peer
def test_dcmtk_stores_over_tls_byte_for_byte(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    own = ("+tls", certificates.key("ct1"), certificates.certificate("ct1"))
    options = (*own, "+cf", certificates.certificate("authority"))
    with opened(tmp_path, settings) as node:
        code, statuses = send_with_dcmtk(ct_folder, node.receiver.tls_port, options=options)
        assert (code, set(statuses)) == (0, {0})
        serves(node, ct_folder)
    sent = (ct_folder / "a.dcm").read_bytes()
    assert len(node.taken) == 2
    assert dataset_of(node.objects[dcmread(ct_folder / "a.dcm").SOPInstanceUID]) == dataset_of(sent)
    assert node.released == [["study of MR1"], ["study of GOOD"]]


@pytest.mark.peer
def test_dcmtk_without_a_certificate_is_served_where_none_is_asked_for(
    tmp_path: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    echoscu = shutil.which("echoscu")
    if echoscu is None:
        pytest.skip("DCMTK's echoscu is not installed")
    with opened(tmp_path, replace(settings, tls_authorities="")) as node:
        command = [echoscu, "+tla", "+cf", certificates.certificate("authority")]
        port = str(node.receiver.tls_port)
        subprocess.run([*command, "127.0.0.1", port], timeout=30, check=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_carry_objects_byte_for_byte(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings, version: ssl.TLSVersion
) -> None:
    context = certificates.client("ct1")
    context.minimum_version = context.maximum_version = version
    content = bytes(range(256)) * 2000
    with opened(tmp_path, settings) as node, Bad(node, REQUEST, context=context) as peer:
        assert peer.hears().startswith(ACCEPT_HEAD)
        peer.socket.sendall(store(1, content))
        assert peer.hears().startswith(P_DATA_HEAD)
        assert dataset_of(node.objects["2.25.1"]) == content
        serves(node, ct_folder)


def test_a_peer_is_known_by_ae_title_address_and_certificate(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    fingerprint = "sha256:" + certificates.fingerprint("mr1")[7:].replace(":", "").lower()
    allowed = (Peer("BAD", "127.0.0.1", "CT1"), Peer("BAD", "127.0.0.1", fingerprint), Peer("GOOD", "127.0.0.1"))
    with opened(tmp_path, replace(settings, allowed_peers=allowed)) as node:
        for name in ("ct1", "mr1"):
            with Bad(node, REQUEST, context=certificates.client(name)) as peer:
                assert peer.hears().startswith(ACCEPT_HEAD)
        with Bad(node, REQUEST, context=certificates.client("node")) as stranger:
            assert stranger.hears() == NOT_KNOWN
        with Bad(node, REQUEST) as without_tls:
            assert without_tls.hears() == NOT_KNOWN
        serves(node, ct_folder)
        serves_tls(node, ct_folder, certificates.client("node"))


def test_a_site_may_close_its_plain_port(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    closed = free_port()
    with opened(tmp_path, replace(settings, port=closed, accept_plain=False)) as node:
        assert node.port == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", closed), timeout=LIMIT_S)
        serves_tls(node, ct_folder, certificates.client("ct1"))


# Those that are turned away.


@pytest.mark.parametrize("name", ["", "forged"])
def test_a_client_without_a_certificate_of_the_authority_is_refused(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings, name: str
) -> None:
    with opened(tmp_path, settings) as node:
        assert is_refused(lambda: Bad(node, REQUEST, context=certificates.client(name)))
        until(lambda: not node.receiver.associations.inside)
        serves(node, ct_folder)
        serves_tls(node, ct_folder, certificates.client("ct1"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("name", OLD)
def test_old_tls_and_weak_suites_are_refused(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings, name: str
) -> None:
    context = certificates.client("ct1")
    version, suites = OLD[name]
    context.set_ciphers(suites)
    context.minimum_version = context.maximum_version = version
    with opened(tmp_path, settings) as node:
        with pytest.raises(ssl.SSLError, match="alert"):
            Bad(node, context=context)
        serves_tls(node, ct_folder, certificates.client("ct1"))


@pytest.mark.parametrize("said", [REQUEST, b"GET / HTTP/1.1\r\n\r\n", bytes.fromhex("16030100ff"), b"\xff" * 70_000])
def test_plain_text_on_the_tls_port_is_refused(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings, said: bytes
) -> None:
    with opened(tmp_path, replace(settings, acse_timeout_s=1)) as node:
        with socket.create_connection(("127.0.0.1", node.receiver.tls_port), timeout=LIMIT_S) as bad:
            bad.sendall(said)
            heard = bad.recv(100)
            assert not heard or heard.startswith(ALERT)
        until(lambda: not node.receiver.associations.inside)
        serves(node, ct_folder)
        serves_tls(node, ct_folder, certificates.client("ct1"))
    assert len(node.taken) == 2


def test_a_strange_address_is_told_so_before_any_handshake(
    tmp_path: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    with opened(tmp_path, replace(settings, allowed_peers=(Peer("*", "10.0.0.0/8"),))) as node:
        before = threading.active_count()
        with pytest.raises(ssl.SSLError, match="ACCESS_DENIED"):
            Bad(node, context=certificates.client("ct1"))
        assert threading.active_count() == before


# Those that are slow, or say nothing.


def test_silent_clients_on_the_tls_port_stop_nobody_and_are_cut(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    with opened(tmp_path, replace(settings, acse_timeout_s=1)) as node, ExitStack() as stack:
        place = ("127.0.0.1", node.receiver.tls_port)
        silent = [stack.enter_context(socket.create_connection(place, timeout=LIMIT_S)) for _ in range(20)]
        serves(node, ct_folder)
        serves_tls(node, ct_folder, certificates.client("ct1"))
        assert all(one.recv(1) == b"" for one in silent)
        serves_tls(node, ct_folder, certificates.client("ct1"))


def test_a_handshake_that_drips_is_cut_at_its_deadline(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = certificates.client("ct1").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with opened(tmp_path, replace(settings, acse_timeout_s=1)) as node:
        with socket.create_connection(("127.0.0.1", node.receiver.tls_port), timeout=0.05) as slow:
            assert _drips(slow, outgoing.read())
        serves_tls(node, ct_folder, certificates.client("ct1"))


def _drips(slow: socket.socket, data: bytes) -> bool:
    """Send one byte at a time, 20 a second, until the node has had enough."""
    for place in range(len(data)):
        try:
            slow.sendall(data[place : place + 1])
            return not slow.recv(1)
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_an_object_that_breaks_off_under_tls_leaves_nothing(
    tmp_path: Path, ct_folder: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    with opened(tmp_path, settings) as node:
        with Bad(node, REQUEST, context=certificates.client("ct1")) as bad:
            assert bad.hears().startswith(ACCEPT_HEAD)
            bad.socket.sendall(half_a_store())
            until(lambda: len(node.leftovers()) == 1)
        until(lambda: not node.leftovers())
        assert node.released == []
        serves(node, ct_folder)


def test_stopping_aborts_under_tls_and_waits_for_no_handshake(
    tmp_path: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    with opened(tmp_path, settings) as node:
        with (
            Bad(node, REQUEST, context=certificates.client("ct1")) as inside,
            socket.create_connection(("127.0.0.1", node.receiver.tls_port), timeout=LIMIT_S) as silent,
        ):
            assert inside.hears().startswith(ACCEPT_HEAD)
            until(lambda: node.receiver.open_associations == 2)
            node.receiver.stop(drain_s=0.05)
            assert inside.hears().startswith(ABORT_HEAD)  # still encrypted: nothing falls back to plain text
            assert silent.recv(1) == b""
        until(lambda: not node.receiver.open_associations)


# What the site wrote.


def test_files_that_cannot_be_used_stop_the_start_and_name_their_key(
    tmp_path: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    (tmp_path / "empty.pem").write_text("nothing\n", encoding="ascii")
    locked = tmp_path / "locked.key"
    command = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", certificates.key("node")]
    subprocess.run([*command, "-out", str(locked)], capture_output=True, timeout=60, check=True)
    for wrong, words in (
        ({"tls_certificate": str(tmp_path / "none.pem")}, r"\[dicom\] tls_certificate: .*none.pem cannot be read"),
        ({"tls_key": str(tmp_path / "none.pem")}, r"\[dicom\] tls_key: .*none.pem cannot be read"),
        ({"tls_key": certificates.key("ct1")}, "no certificate with its key: KEY_VALUES_MISMATCH"),
        ({"tls_key": str(locked)}, "tls_key has a password"),
        ({"tls_certificate": str(tmp_path / "empty.pem")}, "tls_certificate and tls_key are no certificate"),
        ({"tls_authorities": str(tmp_path / "empty.pem")}, "tls_authorities holds no certificates"),
    ):
        with pytest.raises(ConfigError, match=words):
            server_context(replace(settings, **wrong))


def test_check_names_a_key_file_that_is_not_there(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "node.crt").write_bytes(Path(certificates.certificate("node")).read_bytes())
    text = '[dicom]\ntls_port = 2762\ntls_certificate = "node.crt"\ntls_key = "node.key"\n'
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(app, ["check", "--site", str(tmp_path)])
    assert done.exit_code != 0
    assert isinstance(done.exception, ConfigError)
    assert f"tls_key: {tmp_path}/node.key cannot be read" in str(done.exception)


def test_the_fall_back_receiver_refuses_to_start_with_tls(tmp_path: Path, settings: DicomSettings) -> None:
    with pytest.raises(ConfigError, match="offers no TLS"):
        door.serve(
            replace(settings, receiver="pynetdicom"),
            tmp_path,
            accept=lambda _: Answer(0),
            released=lambda _: None,
            has_room=lambda: True,
        )


def test_our_own_client_knows_the_node_by_its_certificate_and_by_its_name(
    tmp_path: Path, certificates: Certificates, settings: DicomSettings
) -> None:
    files = {"certificate": certificates.certificate("ct1"), "key": certificates.key("ct1")}
    right = client_context(certificates.certificate("authority"), where="[destinations.pacs]", **files)
    wrong = client_context(certificates.certificate("other"), where="[destinations.pacs]", **files)
    with opened(tmp_path, settings) as node:
        with Bad(node, REQUEST, context=right) as peer:
            assert peer.hears().startswith(ACCEPT_HEAD)
        with pytest.raises(ssl.SSLCertVerificationError):
            Bad(node, context=wrong)
        place = ("127.0.0.1", node.receiver.tls_port)
        with socket.create_connection(place, timeout=LIMIT_S) as plain, pytest.raises(ssl.SSLCertVerificationError):
            right.wrap_socket(plain, server_hostname="pacs.example")
    with pytest.raises(ConfigError, match=r"\[destinations.pacs\] tls_authorities"):
        client_context(str(tmp_path / "none.pem"), where="[destinations.pacs]")
