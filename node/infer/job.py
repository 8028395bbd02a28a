"""What a child process is told, and what it answers: one line of JSON for each message.

A child is told once what to open, then of one Assignment after the other; it answers each, and says after each how it
is doing itself.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from node.domain.study import Study
from node.domain.work import Priority
from node.errors import InferenceError, StoreError
from node.store.records import from_plain, to_plain

__all__ = ["OPENED", "Answer", "Job", "Opening", "Rested", "decode_job", "decode_opening", "decode_said", "encode"]

OPENED = 0  # number of the Answer to an Opening; those to Jobs count from 1


@dataclass(frozen=True, slots=True)
class Opening:
    """What a child process keeps loaded, and its bounds.

    Parameters
    ----------
    together
        How many studies it may read at once; above 1 their requests to a model are put together.
    time_limit_s
        The longest that a study may ever take; a model server is waited for a little less.
    memory_limit_mb
        Most address space, or memory where the address space cannot be bounded.
    """

    handler: str
    site: Path
    threads: int
    device: str
    memory_limit_mb: int
    together: int = 1
    time_limit_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Job:
    """One Assignment as a child process sees it.

    Parameters
    ----------
    number
        Names the Job in its Answer.
    study
        Only the Series that the handler was given.
    folder
        Where the Analysis is to be saved.
    cpu_limit_s
        Processor time that the child may use for it.
    """

    number: int
    folder: Path
    study: Study
    cpu_limit_s: int
    priority: int = int(Priority.ROUTINE)


@dataclass(frozen=True, slots=True)
class Answer:
    """How a Job ended: `analysis_sha256` of what was saved, or what went wrong; for an Opening neither if it went well.

    `error` and `message` never hold patient data: of an exception that is not ours only its type and
    place are told.
    """

    number: int
    analysis_sha256: str = ""
    error: str = ""
    message: str = ""
    is_limit: bool = False


@dataclass(frozen=True, slots=True)
class Rested:
    """What a child is like when it has cleaned up after its Jobs.

    Parameters
    ----------
    memory_mb
        What it holds in memory.
    left
        What a handler left running, which only the end of the child removes; "" if nothing.
    """

    memory_mb: int
    left: str = ""


SAID: dict[str, type[Answer] | type[Rested]] = {"Answer": Answer, "Rested": Rested}


def encode(record: Opening | Job | Answer | Rested) -> bytes:
    """Put a message on the wire between parent and child."""
    return json.dumps([type(record).__name__, to_plain(record, {})]).encode("ascii") + b"\n"


def decode_opening(line: bytes) -> Opening:
    """Read what to open.

    Raises
    ------
    InferenceError
        If the bytes are no Opening.
    """
    try:
        _, plain = json.loads(line)
        return from_plain(Opening, plain, {})
    except (ValueError, TypeError, StoreError) as error:
        raise InferenceError("the child process was given something that does not say what to open") from error


def decode_job(line: bytes) -> Job:
    """Read a Job.

    Raises
    ------
    InferenceError
        If the bytes are not a Job.
    """
    try:
        _, plain = json.loads(line)
        return from_plain(Job, plain, {})
    except (ValueError, TypeError, StoreError) as error:
        raise InferenceError("the child process was given something that is not a job") from error


def decode_said(line: bytes) -> Answer | Rested:
    """Read what a child says.

    Raises
    ------
    InferenceError
        If the bytes are neither an Answer nor a Rested.
    """
    try:
        name, plain = json.loads(line)
        return from_plain(SAID[name], plain, {})
    except (ValueError, TypeError, KeyError, StoreError) as error:
        raise InferenceError("the child process gave something that is not an answer") from error
