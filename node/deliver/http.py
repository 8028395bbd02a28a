"""Results as JSON or FHIR to a web service: one POST for each, that may safely be made again."""

from collections.abc import Mapping
from pathlib import Path

from node.deliver.web import WebClient, refusal, stretches
from node.domain.work import Output, OutputKind
from node.errors import DeliveryError
from node.settings import HttpDestination

__all__ = ["HttpConnection"]

CONTENT_TYPES: Mapping[OutputKind, str] = {
    OutputKind.JSON: "application/json",
    OutputKind.FHIR: "application/fhir+json; charset=utf-8",  # FHIR R4 http.html#mime-type
}


class HttpConnection:
    """What is sent to one web service; the connection is opened when first used and kept for what comes next."""

    def __init__(self, destination: HttpDestination) -> None:
        """Remember the service; nothing is opened yet.

        Raises
        ------
        ConfigError
            If its secret, certificate or key is not what it must be.
        """
        self._name = destination.name
        self._client = WebClient(destination)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def send(self, path: Path, output: Output) -> str:
        """Send one stored result, with its id as idempotency key: a service that knows the id has the result.

        Returns
        -------
        The HTTP status, such as ``201``.

        Raises
        ------
        DeliveryError
            Permanent if the service refuses the request for good; else the same bytes may be sent again.
        OSError
            If the file cannot be read.
        """
        content_type = CONTENT_TYPES.get(output.kind)
        if content_type is None:
            message = f"{self._name}: {output.output_id} is neither JSON nor FHIR"
            raise DeliveryError(message, is_permanent=True)
        headers = {"Content-Type": content_type, "Accept": "application/json", "Idempotency-Key": output.output_id}
        answer = self._client.post("", stretches(path), size_bytes=output.size_bytes, headers=headers)
        if not answer.is_success:
            raise refusal(self._name, output.output_id, answer)
        return str(answer.status)
