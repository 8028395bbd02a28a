"""JSON and FHIR to a web service: what it says, and everything it may do instead of saying it."""

import base64
import hashlib
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from node.deliver.http import HttpConnection
from node.domain.work import Output, OutputKind
from node.errors import ConfigError, DeliveryError
from node.settings import HttpDestination, Secret
from tests.peers.web import Reply, WebFault, WebService, refused_url
from tests.wire.certificates import make_certificates

CONTENT = '{"result_id": "2.25.5", "patient": "王小明"}\n'.encode()


@pytest.fixture
def result(tmp_path: Path) -> Output:
    path = tmp_path / "2.25.5.json"
    path.write_bytes(CONTENT)
    return Output("2.25.5", OutputKind.JSON, path, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def _send(result: Output, destination: HttpDestination) -> str:
    connection = HttpConnection(destination)
    try:
        return connection.send(result.path, result)
    finally:
        connection.close()


def _to(service: WebService, **more: object) -> HttpDestination:
    return replace(HttpDestination("service", service.url, timeout_s=5.0), **more)  # type: ignore[arg-type]


def _refused(result: Output, *script: Reply | WebFault, timeout_s: float = 5.0) -> DeliveryError:
    with WebService(*script) as service, pytest.raises(DeliveryError) as caught:
        _send(result, _to(service, timeout_s=timeout_s))
    assert "王小明" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_every_success_is_a_receipt_and_the_bytes_are_the_stored_ones(result: Output, status: int) -> None:
    with WebService(Reply(status)) as service:
        assert _send(result, _to(service)) == str(status)
    (request,) = service.requests
    assert (request.path, request.body) == ("/results", CONTENT)
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "2.25.5"
    assert "Authorization" not in request.headers


def test_fhir_says_that_it_is_fhir(result: Output) -> None:
    with WebService() as service:
        _send(replace(result, kind=OutputKind.FHIR), _to(service))
    assert service.requests[0].headers["Content-Type"] == "application/fhir+json; charset=utf-8"


def test_a_repeated_request_is_the_same_to_the_last_byte_and_uses_the_same_connection(result: Output) -> None:
    with WebService(Reply(201), Reply(200)) as service:
        connection = HttpConnection(_to(service))
        assert [connection.send(result.path, result) for _ in range(2)] == ["201", "200"]
        connection.close()
        assert service.connections == 1
    first, second = service.requests
    assert first == second


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 415, 422])
def test_a_refusal_of_the_content_is_permanent(result: Output, status: int) -> None:
    error = _refused(result, Reply(status, body=b"patient Wang is unknown"))
    assert error.is_permanent
    assert str(error) == f"service: 2.25.5 was answered {status}"


@pytest.mark.parametrize("status", [401, 403, 408, 425, 429, 500, 502, 503, 504, 507])
def test_trouble_of_the_moment_is_tried_again(result: Output, status: int) -> None:
    assert not _refused(result, Reply(status)).is_permanent


@pytest.mark.parametrize(("text", "least_wait_s"), [("120", 120), ("Fri, 31 Dec 1999 23:59:59 GMT", 0), ("-1", 0)])
def test_a_service_that_asks_us_to_wait_is_heard(result: Output, text: str, least_wait_s: float) -> None:
    assert _refused(result, Reply(503, {"Retry-After": text})).least_wait_s == least_wait_s


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_nothing_reaches_the_other_host(result: Output, status: int) -> None:
    with WebService() as other:
        error = _refused(result, Reply(status, {"Location": other.url}))
        assert other.requests == []
    assert not error.is_permanent
    assert "redirects are not followed" in str(error)


@pytest.mark.parametrize("fault", [WebFault.CLOSE, WebFault.HALF, WebFault.RESET])
def test_an_answer_that_does_not_come_whole_is_no_receipt(result: Output, fault: WebFault) -> None:
    error = _refused(result, fault)
    assert not error.is_permanent
    assert "did not answer to the end" in str(error)


@pytest.mark.parametrize("fault", [WebFault.SILENCE, WebFault.DRIP])
def test_a_service_that_does_not_end_its_answer_is_given_up_at_the_deadline(result: Output, fault: WebFault) -> None:
    error = _refused(result, fault, timeout_s=0.4)
    assert not error.is_permanent
    assert "in time" in str(error)


def test_a_service_that_does_not_read_is_given_up_at_the_deadline(result: Output) -> None:
    with WebService(WebFault.RESET) as service:
        service._server.shutdown()  # it listens, and nobody accepts
        large = result.path.with_name("large")
        large.write_bytes(bytes(64 << 20))
        with pytest.raises(DeliveryError, match="in time") as caught:
            _send(replace(result, path=large, size_bytes=64 << 20), _to(service, timeout_s=0.4))
    assert not caught.value.is_permanent


def test_after_a_fault_the_next_request_has_a_connection_of_its_own(result: Output) -> None:
    with WebService(WebFault.HALF, Reply(200)) as service:
        connection = HttpConnection(_to(service))
        with pytest.raises(DeliveryError):
            connection.send(result.path, result)
        assert connection.send(result.path, result) == "200"
        connection.close()
        assert service.connections == 2


def test_a_host_that_is_not_there_is_tried_again(result: Output) -> None:
    with refused_url() as url, pytest.raises(DeliveryError, match="cannot be reached: Connection refused") as caught:
        _send(result, HttpDestination("service", url, timeout_s=2.0))
    assert not caught.value.is_permanent


@pytest.mark.parametrize(
    ("user", "said"),
    [("node", "Basic " + base64.b64encode(b"node:s3cret").decode()), ("", "Bearer s3cret")],
)
def test_the_secret_is_sent_as_password_or_as_token(result: Output, user: str, said: str) -> None:
    with WebService() as service:
        _send(result, _to(service, user=user, secret_variable="X_SECRET", secret=Secret("s3cret")))  # noqa: S106
    assert service.requests[0].headers["Authorization"] == said


@pytest.mark.parametrize(("secret", "words"), [("", "there is no X_SECRET"), ("a\nb", "printable ASCII")])
def test_a_secret_that_is_missing_or_cannot_be_sent_stops_the_start(secret: str, words: str) -> None:
    destination = HttpDestination("service", "http://h", secret_variable="X_SECRET", secret=Secret(secret))  # noqa: S106
    with pytest.raises(ConfigError, match=words):
        HttpConnection(destination)


def test_a_dicom_object_is_not_posted(result: Output) -> None:
    with WebService() as service, pytest.raises(DeliveryError) as caught:
        _send(replace(result, kind=OutputKind.TEXT_SR), _to(service))
    assert caught.value.is_permanent
    assert service.requests == []


def test_a_proxy_of_the_environment_is_not_used(result: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    with WebService() as proxy, WebService() as service:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert _send(result, _to(service)) == "200"
        assert proxy.requests == []


def test_tls_tells_the_service_by_its_authority(result: Output, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate("node"), made.key("node"))
    with WebService(tls=context) as service:
        assert _send(result, _to(service, tls_authorities=made.certificate("authority"))) == "200"
        for authorities in (made.certificate("other"), ""):
            with pytest.raises(DeliveryError, match="TLS, CERTIFICATE_VERIFY_FAILED") as caught:
                _send(result, _to(service, tls_authorities=authorities))
            assert not caught.value.is_permanent
        assert len(service.requests) == 1
