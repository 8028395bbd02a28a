"""What a child process is told, and what it answers: one JSON text each way."""

import json
from dataclasses import dataclass
from pathlib import Path

from node.domain.study import Study
from node.errors import InferenceError, StoreError
from node.store.records import from_plain, to_plain

__all__ = ["Answer", "Job", "decode_answer", "decode_job", "encode"]


@dataclass(frozen=True, slots=True)
class Job:
    """One Assignment as a child process sees it.

    Parameters
    ----------
    parent_pid
        The child ends when this process does.
    study
        Only the Series that the handler was given.
    folder
        Where the Analysis is to be saved.
    """

    parent_pid: int
    handler: str
    site: Path
    folder: Path
    study: Study
    threads: int
    memory_limit_mb: int
    cpu_limit_s: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How a child process ended: `analysis_sha256` of what it saved, or what went wrong.

    `error` and `message` never hold patient data: of an exception that is not ours only its type and
    place are told.
    """

    analysis_sha256: str = ""
    error: str = ""
    message: str = ""
    is_limit: bool = False


def encode(record: Job | Answer) -> bytes:
    """Put a Job or an Answer on the wire between parent and child."""
    return json.dumps(to_plain(record, {})).encode("ascii")


def decode_job(content: bytes) -> Job:
    """Read a Job.

    Raises
    ------
    InferenceError
        If the bytes are not a Job.
    """
    try:
        return from_plain(Job, json.loads(content), {})
    except (ValueError, StoreError) as error:
        raise InferenceError("the child process was given something that is not a job") from error


def decode_answer(content: bytes) -> Answer:
    """Read an Answer.

    Raises
    ------
    InferenceError
        If the bytes are not an Answer.
    """
    try:
        return from_plain(Answer, json.loads(content), {})
    except (ValueError, StoreError) as error:
        raise InferenceError("the child process gave something that is not an answer") from error
