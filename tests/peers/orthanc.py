"""Orthanc as the PACS of the test suite."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.demo.pacs import OrthancPacs, find_orthanc
from node.settings import DicomDestination

__all__ = ["destination", "orthanc"]


@contextlib.contextmanager
def orthanc(folder: Path) -> Iterator[OrthancPacs]:
    """Run Orthanc as long as the ``with`` block lasts; skip the test where it is not installed."""
    program = find_orthanc()
    if program is None:
        pytest.skip("Orthanc is not installed")
    pacs = OrthancPacs(folder, program)
    pacs.start()
    try:
        yield pacs
    finally:
        pacs.stop()


def destination(pacs: OrthancPacs, *, timeout_s: float = 10.0) -> DicomDestination:
    return DicomDestination("orthanc", "127.0.0.1", pacs.port, pacs.ae_title, timeout_s=timeout_s)
