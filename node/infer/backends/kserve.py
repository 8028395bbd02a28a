"""A model on a server that speaks KServe v2 by gRPC, such as Triton or MLServer.

What the server says of the model is compared with the card when it is opened, and what it answers is checked as any
output is. Its weights cannot be: the card says so, and the results name server, model and version. The channel is not
encrypted, so server and node belong on one machine or on a network of their own.

References
----------
Open Inference Protocol (KServe v2), gRPC.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from node.domain.models import ModelCard
from node.errors import ModelError, ModelOutputError
from node.infer.loaded import LoadedModel, Run, Tensors, check_tensors

# Looked up like this because it is optional; `node.infer.session` says what to install where it is missing.
client_of: Any = importlib.import_module("tritonclient.grpc")
RpcError: type[Exception] = importlib.import_module("tritonclient.utils").InferenceServerException

__all__ = ["open"]

QUESTION_S = 10.0  # for what a server answers without thinking
SHARE_OF_LIMIT = 0.9  # the rest is left to say that the server was late
FLOAT32 = "FP32"  # the protocol's word
CHANNEL = (
    ("grpc.max_send_message_length", -1),  # a volume is larger than the 4 MB of a usual message
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # images go to the server that the card names, through nobody
)
NOT_A_WORD = re.compile(r"[^A-Za-z0-9._+-]+")
LONGEST_WORD = 24


def open(card: ModelCard, *, time_limit_s: float) -> LoadedModel:  # noqa: A001  as in every backend
    """Make sure that a server is ready to run a model as its card says.

    Parameters
    ----------
    time_limit_s
        The longest that a study may take; one run is waited for nine tenths of it.

    Raises
    ------
    ModelError
        If no server answers, server or model is not ready, or the model has other versions, inputs or outputs.
    """
    client = client_of.InferenceServerClient(card.url, channel_args=CHANNEL)
    name, version = card.served_name or card.name, card.served_version
    if not _ask(card, lambda: client.is_server_ready(client_timeout=QUESTION_S)):
        raise ModelError(f"{card.name}: the server {card.url} is not ready")
    server = _ask(card, lambda: client.get_server_metadata(client_timeout=QUESTION_S))
    found = _ask(card, lambda: client.get_model_metadata(name, version, client_timeout=QUESTION_S))
    if not _ask(card, lambda: client.is_model_ready(name, version, client_timeout=QUESTION_S)):
        raise ModelError(f"{card.name}: the server {card.url} has {name} version {version}, but it is not ready")
    if found.versions and version not in found.versions:  # MLServer tells none
        raise ModelError(f"{card.name}: the server {card.url} has no version {version} of {name}")
    _compare(card, "input", found.inputs)
    _compare(card, "output", found.outputs)
    run = _run_of(card, client, time_limit_s * SHARE_OF_LIMIT)
    device = f"KServe {_word(server.name)} {_word(server.version)}"
    return LoadedModel(card, run, lambda: device)


def _compare(card: ModelCard, role: str, found: Sequence[Any]) -> None:
    wanted = card.inputs if role == "input" else card.outputs
    shapes = {tensor.name: tuple(tensor.shape) for tensor in found}
    check_tensors(card, role, wanted, shapes, source=f"the server {card.url}")
    kinds = {tensor.name: tensor.datatype for tensor in found}
    for tensor in wanted:
        if kinds[tensor.name] != FLOAT32:
            raise ModelError(f"{card.name}: {role} {tensor.name}: expected {FLOAT32}, the server says another type")


def _run_of(card: ModelCard, client: Any, deadline_s: float) -> Run:
    name, version = card.served_name or card.name, card.served_version

    def run(inputs: Tensors, names: Sequence[str]) -> Sequence[object]:
        given = []
        for key, tensor in inputs.items():
            given.append(client_of.InferInput(key, list(tensor.shape), FLOAT32))
            given[-1].set_data_from_numpy(tensor)
        wanted = [client_of.InferRequestedOutput(key) for key in names]
        result = _ask(
            card,
            lambda: client.infer(name, given, model_version=version, outputs=wanted, client_timeout=deadline_s),
            deadline_s,
        )
        answered = result.get_response().model_version
        if answered not in ("", version):
            raise ModelOutputError(f"{card.name}: asked for version {version}, another one answered")
        return [_as_array(card, result, key) for key in names]

    return run


def _as_array(card: ModelCard, result: Any, name: str) -> object:
    try:
        found = result.as_numpy(name)
    except ValueError as error:
        raise ModelOutputError(f"{card.name}: output {name}: its bytes are not of its shape") from error
    if found is None:
        raise ModelOutputError(f"{card.name}: output {name}: the server did not give it")
    return np.array(found)


def _ask(card: ModelCard, question: Callable[[], Any], limit_s: float = QUESTION_S) -> Any:
    try:
        return question()
    except RpcError as error:
        _raise_from(error, card, limit_s)


def _raise_from(error: Exception, card: ModelCard, limit_s: float) -> NoReturn:
    """A server's own text may quote what it was sent: only the status is kept."""
    status = str(error.status()).removeprefix("StatusCode.") if hasattr(error, "status") else ""
    reasons = {
        "DEADLINE_EXCEEDED": f"the server {card.url} did not answer within {limit_s:g} s",
        "NOT_FOUND": f"the server {card.url} has no {card.served_name or card.name} version {card.served_version}",
        "UNAVAILABLE": f"no server answers at {card.url}, or it is not ready",
    }
    raise ModelError(f"{card.name}: {reasons.get(status, f'the server {card.url} refused: {status}')}") from error


def _word(text: str) -> str:
    """A word of a server's own, short and plain enough for a report."""
    return NOT_A_WORD.sub("_", text)[:LONGEST_WORD]
