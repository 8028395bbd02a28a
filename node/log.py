"""The log: short past-tense sentences with declared keys, so that no patient data can slip in.

Every key of an event must be in `ALLOWED`; another one is replaced by its name alone. Values are
bounded and stripped of line breaks, because some of them come from peers. What must be provable
goes to ``audit``, not here.
"""

import contextlib
import logging
import os
import shutil
import sys
import threading
import traceback
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

__all__ = ["ALLOWED", "configure_logging", "keep_values_out", "turn_log"]

ALLOWED = frozenset(
    {
        "address", "answer", "assignment", "attempt", "called_ae", "calling_ae", "count", "delay_s", "destination",
        "error", "event", "exit_code", "generation", "handler", "kind", "level", "logger", "model", "output", "pid",
        "port", "process", "queue", "reason", "rule", "seconds", "series_instance_uid", "signal", "size_bytes",
        "sop_class_uid", "sop_instance_uid", "state", "status", "step", "study_instance_uid", "timestamp", "version",
        "workflow",
    }
)  # fmt: skip
LONGEST_VALUE = 300


def configure_logging(level: str, style: str) -> None:
    """Send events to standard error as text or as JSON lines.

    Parameters
    ----------
    level
        ``debug``, ``info``, ``warning`` or ``error``.
    style
        ``text`` or ``json``.
    """
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=28)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.add_logger_name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_allowed,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_NamedFactory(),
        cache_logger_on_first_use=False,
    )
    # Libraries log what peers send (names, identifiers): only their warnings, and theirs alone, may pass.
    for library in (
        "pynetdicom", "pydicom", "dbos", "alembic", "sqlalchemy", "apscheduler", "httpx", "httpcore", "urllib3",
        "orthanc_api_client",
    ):  # fmt: skip
        logging.getLogger(library).setLevel(logging.ERROR)


def keep_values_out() -> None:
    """Take from Python its own words on standard error, which quote values: warnings, and how a thread ended."""
    warnings.showwarning = lambda *_arguments, **_more: None
    threading.excepthook = lambda ended: _tell_of_end(ended.exc_type, ended.exc_traceback)
    sys.excepthook = lambda kind, _error, trace: _tell_of_end(kind, trace)


def _tell_of_end(kind: type[BaseException], trace: TracebackType | None) -> None:
    place = traceback.extract_tb(trace)[-1] if trace else None
    where = f"{Path(place.filename).name}:{place.lineno}" if place else ""
    structlog.get_logger(__name__).error("thread failed", error=kind.__name__, step=where)


def turn_log(path: Path, *, longest_bytes: int) -> bool:
    """Begin a log file anew if it is long, and keep what it held as ``.1`` beside it; True if it was.

    For a file that every process of the node appends to and that this one has as standard output. Its processes go
    on writing to the same file, so it is copied and emptied: a line written in that very moment may be lost.
    """
    with contextlib.suppress(OSError):
        if path.stat().st_size <= longest_bytes or not os.path.samestat(path.stat(), os.fstat(1)):
            return False
        old = path.with_name(f"{path.name}.1")
        shutil.copyfile(path, old)
        os.truncate(path, 0)
        return True
    return False


class _NamedFactory:
    def __call__(self, *names: str) -> "_NamedLogger":
        return _NamedLogger(names[0] if names else "node")


class _NamedLogger(structlog.PrintLogger):
    """A logger to standard error that knows its module."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name

    def msg(self, message: str) -> None:
        """Write one line; a log that cannot be written (disk full, reader gone) never stops the work it tells of."""
        with contextlib.suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = msg


def keep_allowed(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop the value of every key that is not declared; bound and flatten the others."""
    for key in list(event):
        if key not in ALLOWED:
            event[key] = "(not allowed in the log)"
        elif not isinstance(event[key], bool | int | float | None):
            text = "".join(character if character.isprintable() else " " for character in str(event[key]))
            event[key] = text[:LONGEST_VALUE]
    return event
