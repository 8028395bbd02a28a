"""Result objects by STOW-RS and over Orthanc's REST interface: stored as they are, once, however often they go."""

import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from node.deliver.orthanc import OrthancConnection
from node.deliver.stow import StowConnection
from node.demo.pacs import OrthancPacs
from node.domain.work import Output, OutputKind
from node.errors import DeliveryError
from node.settings import OrthancDestination, Secret, StowDestination
from tests.objects import output_of, stored
from tests.peers.orthanc import orthanc_with_dicomweb
from tests.peers.web import Reply, WebFault, WebService, refused_url
from tests.wire.certificates import make_certificates

UID = "2.25.771"
Way = Callable[..., str]


def _stow(path: Path, output: Output, url: str, **more: object) -> str:
    destination = StowDestination("archive", url, timeout_s=10.0)
    connection = StowConnection(replace(destination, **more))  # type: ignore[arg-type]
    try:
        return connection.send(path, output)
    finally:
        connection.close()


def _rest(path: Path, output: Output, url: str, **more: object) -> str:
    destination = OrthancDestination("orthanc", url, timeout_s=10.0)
    connection = OrthancConnection(replace(destination, **more))  # type: ignore[arg-type]
    try:
        return connection.send(path, output)
    finally:
        connection.close()


def _response(uid: str, *, failure: int | None = None, warning: int | None = None) -> bytes:
    """A Store response as PS3.18 I.2.2 has it, about one instance."""
    item: dict[str, object] = {"00081155": {"vr": "UI", "Value": [uid]}}
    if failure is not None:
        item["00081197"] = {"vr": "US", "Value": [failure]}
        return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    return json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancPacs]:
    with orthanc_with_dicomweb(tmp_path_factory.mktemp("plain")) as found:
        yield found


def _root(pacs: OrthancPacs) -> str:
    return f"http://127.0.0.1:{pacs.http_port}"


@pytest.mark.peer
def test_orthanc_keeps_by_stow_what_was_stored_byte_for_byte_and_once(tmp_path: Path, pacs: OrthancPacs) -> None:
    path, output = stored(tmp_path, 11)
    for _ in range(2):
        assert _stow(path, output, f"{_root(pacs)}/dicom-web/") == "200"
    assert pacs.instances().count(output.output_id) == 1
    assert pacs.download(output.output_id) == path.read_bytes()


@pytest.mark.peer
def test_orthanc_keeps_by_rest_what_was_stored_byte_for_byte_and_once(tmp_path: Path, pacs: OrthancPacs) -> None:
    path, output = stored(tmp_path, 12)
    assert [_rest(path, output, _root(pacs)) for _ in range(2)] == ["Success", "AlreadyStored"]
    assert pacs.instances().count(output.output_id) == 1
    assert pacs.download(output.output_id) == path.read_bytes()


@pytest.mark.peer
def test_the_three_ways_to_an_orthanc_find_each_others_objects_there(tmp_path: Path, pacs: OrthancPacs) -> None:
    path, output = stored(tmp_path, 13)
    assert _stow(path, output, f"{_root(pacs)}/dicom-web") == "200"
    assert _rest(path, output, _root(pacs)) == "AlreadyStored"


@pytest.mark.peer
def test_another_object_under_the_same_uid_is_a_dead_letter(tmp_path: Path, pacs: OrthancPacs) -> None:
    path, output = stored(tmp_path, 14)
    assert _rest(path, output, _root(pacs)) == "Success"
    ds = dcmread(path)
    ds.TextValue = "changed"
    ds.save_as(path)
    with pytest.raises(DeliveryError, match=r"another object is stored there as 2\.25\.7714") as caught:
        _rest(path, output_of(path), _root(pacs))
    assert caught.value.is_permanent


@pytest.mark.peer
@pytest.mark.parametrize(("way", "below"), [(_stow, "/dicom-web"), (_rest, "")])
def test_what_is_no_dicom_file_is_not_taken(tmp_path: Path, pacs: OrthancPacs, way: Way, below: str) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"no dicom" * 100)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    before = pacs.instances()
    with pytest.raises(DeliveryError):
        way(path, Output("2.25.7799", OutputKind.TEXT_SR, path, digest, 800), f"{_root(pacs)}{below}")
    assert pacs.instances() == before


@pytest.mark.peer
def test_an_orthanc_with_a_password_takes_it_and_without_it_is_tried_again(tmp_path: Path) -> None:
    path, output = stored(tmp_path)
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"node": "s3cret"}}
    known = {"user": "node", "secret_variable": "X", "secret": Secret("s3cret")}
    forgotten = known | {"secret": Secret("wrong")}
    with orthanc_with_dicomweb(tmp_path / "pacs", **users) as pacs:
        for way, url in ((_stow, f"{_root(pacs)}/dicom-web"), (_rest, _root(pacs))):
            with pytest.raises(DeliveryError, match="answered 401") as caught:
                way(path, output, url, **forgotten)
            assert not caught.value.is_permanent
        assert _stow(path, output, f"{_root(pacs)}/dicom-web", **known) == "200"
        assert _rest(path, output, _root(pacs), **known) == "AlreadyStored"


@pytest.mark.peer
def test_an_orthanc_that_keeps_no_md5_is_compared_by_bytes(tmp_path: Path) -> None:
    path, output = stored(tmp_path)
    with orthanc_with_dicomweb(tmp_path / "pacs", StoreMD5ForAttachments=False) as pacs:
        assert [_rest(path, output, _root(pacs)) for _ in range(2)] == ["Success", "AlreadyStored"]


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, _response(UID), "200"),
        (200, b"[" + _response(UID) + b"]", "200"),
        (202, _response(UID, warning=0xB000), "202 0xB000"),
        (409, _response(UID, failure=0x0111), "409 0x0111"),
    ],
)
def test_an_instance_is_judged_by_what_the_response_says_of_it(
    tmp_path: Path, status: int, body: bytes, answer: str
) -> None:
    path, output = stored(tmp_path)
    with WebService(Reply(status, body=body)) as service:
        assert _stow(path, output, service.url) == answer
    (request,) = service.requests
    assert request.path == "/results/studies"
    assert request.headers["Accept"] == "application/dicom+json"
    boundary = request.headers["Content-Type"].partition("boundary=")[2]
    head, _, rest = request.body.partition(b"\r\n\r\n")
    assert head == f"--{boundary}\r\nContent-Type: application/dicom".encode()
    assert rest == path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()


@pytest.mark.parametrize(
    ("status", "body", "is_permanent"),
    [
        (409, _response(UID, failure=0xA900), True),
        (409, _response(UID, failure=0xC001), True),
        (409, _response(UID, failure=0x0122), True),
        (202, _response(UID, failure=0xA700), False),
        (409, _response(UID, failure=0x0110), False),
        (200, _response("2.25.1"), False),  # of another instance
        (200, b"", False),
        (200, b"<NativeDicomModel/>", False),
        (200, b"[" * 100_000, False),
        (200, b'{"00081199": {"Value": [null, 3, {"00081155": 4}]}}', False),
        (409, b"", True),
        (400, b"", True),
        (503, b"", False),
    ],
)
def test_an_instance_that_is_not_said_to_be_stored_is_not_delivered(
    tmp_path: Path, status: int, body: bytes, *, is_permanent: bool
) -> None:
    path, output = stored(tmp_path)
    with WebService(Reply(status, body=body)) as service, pytest.raises(DeliveryError) as caught:
        _stow(path, output, service.url)
    assert caught.value.is_permanent is is_permanent


@pytest.mark.parametrize(
    ("reply", "is_permanent"),
    [
        (Reply(400), True),
        (Reply(404), True),
        (Reply(409), False),  # the library reads its body, and there is none
        (Reply(302, {"Location": "http://127.0.0.1:9/"}), False),
        (Reply(500), False),
        (Reply(503), False),
        (Reply(200), False),
        (Reply(200, body=b"[]"), False),
        (Reply(200, body=b'{"ID": "x"}'), False),
        (Reply(200, body=b'{"ID": "x", "Status": "FilteredOut"}'), True),
        (Reply(200, body=b'{"ID": "x", "Status": "Failure"}'), False),
        (WebFault.CLOSE, False),
        (WebFault.HALF, False),
        (WebFault.RESET, False),
        (WebFault.SILENCE, False),
    ],
)
def test_an_orthanc_that_does_not_say_stored_has_not_taken_it(
    tmp_path: Path, reply: Reply | WebFault, *, is_permanent: bool
) -> None:
    path, output = stored(tmp_path)
    with WebService(reply) as service, pytest.raises(DeliveryError) as caught:
        _rest(path, output, service.url, timeout_s=0.5)
    assert caught.value.is_permanent is is_permanent


@pytest.mark.parametrize("way", [_stow, _rest])
def test_a_service_that_is_not_there_is_tried_again(tmp_path: Path, way: Way) -> None:
    path, output = stored(tmp_path)
    with refused_url() as url, pytest.raises(DeliveryError) as caught:
        way(path, output, url)
    assert not caught.value.is_permanent


@pytest.mark.parametrize("way", [_stow, _rest])
def test_what_is_no_dicom_object_is_not_sent(tmp_path: Path, way: Way) -> None:
    path, output = stored(tmp_path)
    with WebService() as service, pytest.raises(DeliveryError) as caught:
        way(path, replace(output, kind=OutputKind.FHIR), service.url)
    assert caught.value.is_permanent
    assert service.requests == []


@pytest.mark.peer
def test_an_orthanc_that_keeps_objects_in_another_syntax_still_has_what_it_was_sent(tmp_path: Path) -> None:
    path, output = stored(tmp_path)
    with orthanc_with_dicomweb(tmp_path / "pacs", IngestTranscoding=str(ImplicitVRLittleEndian)) as pacs:
        said = [_rest(path, output, _root(pacs)) for _ in range(2)]
        assert pacs.instances() == [output.output_id]
    assert said == ["Success", "AlreadyStored, transcoded"]


def test_tls_tells_an_archive_by_its_authority(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    path, output = stored(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate("node"), made.key("node"))
    body = _response(UID)[:-1] + b', "ID": "x", "Status": "Success"}'
    with WebService(Reply(200, body=body), tls=context) as service:
        for way, answer in ((_stow, "200"), (_rest, "Success")):
            assert way(path, output, service.url, tls_authorities=made.certificate("authority")) == answer
            for authorities in (made.certificate("other"), ""):
                with pytest.raises(DeliveryError) as caught:
                    way(path, output, service.url.replace("https", "HTTPS"), tls_authorities=authorities)
                assert not caught.value.is_permanent
        assert len(service.requests) == 2


def test_an_archive_that_asks_for_our_certificate_sees_it(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    path, output = stored(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate("node"), made.key("node"))
    context.load_verify_locations(made.certificate("authority"))
    context.verify_mode = ssl.CERT_REQUIRED
    own = {"tls_certificate": made.certificate("ct1"), "tls_key": made.key("ct1")}
    body = _response(UID)[:-1] + b', "ID": "x", "Status": "Success"}'
    with WebService(Reply(200, body=body), tls=context) as service:
        for way, answer in ((_stow, "200"), (_rest, "Success")):
            known = {"tls_authorities": made.certificate("authority")}
            with pytest.raises(DeliveryError):
                way(path, output, service.url, **known)
            assert way(path, output, service.url, **known, **own) == answer
