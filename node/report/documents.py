"""The documents for systems that take no DICOM: JSON and FHIR, in each language that a destination asks for."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from node.domain.statement import Statement
from node.domain.work import Output, OutputKind
from node.paths import write_atomically
from node.report.fhir import result_fhir
from node.report.result_json import Subject, result_json
from node.settings import Destination, Hl7Destination

__all__ = ["DOCUMENTS", "write_documents"]

Render = Callable[[Statement, Subject], tuple[str, bytes]]

DOCUMENTS: Mapping[OutputKind, tuple[Render, str]] = {
    OutputKind.JSON: (result_json, ".json"),
    OutputKind.FHIR: (result_fhir, ".fhir"),
}
"""Who makes each, and what its file in the store ends with."""


def write_documents(
    destinations: Iterable[Destination | None],
    statements: Mapping[str, Statement],
    subject: Subject,
    *,
    folder: Path,
    site_language: str,
) -> tuple[Output, ...]:
    """Make what the destinations ask for, each once in each language.

    Parameters
    ----------
    statements
        The same statement in every language that is asked for.
    folder
        Where the files go; each is named by its own id.

    Raises
    ------
    ReportError
        If one of them cannot be made.
    """
    asked = {
        (destination.language or site_language, kind): None  # in the order in which they are asked for
        for destination in destinations
        if destination is not None and not isinstance(destination, Hl7Destination)
        for kind in destination.objects
        if kind in DOCUMENTS
    }
    return tuple(_write(statements[language], kind, subject, folder) for language, kind in asked)


def _write(statement: Statement, kind: OutputKind, subject: Subject, folder: Path) -> Output:
    render, suffix = DOCUMENTS[kind]
    output_id, content = render(statement, subject)
    path = folder / f"{output_id}{suffix}"
    write_atomically(path, content)
    sha256 = hashlib.sha256(content).hexdigest()
    return Output(output_id, kind, path, sha256, len(content), language=statement.language)
