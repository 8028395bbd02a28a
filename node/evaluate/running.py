"""Runs an application over cases as the node would, in the same child process, and keeps every answer for a resume."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node import infer
from node.api import Handler
from node.dicom.uid import derive_uid
from node.domain.findings import Analysis
from node.domain.study import Series, Study
from node.domain.work import Assignment, Priority
from node.errors import EvaluationError, HandlerError, InferenceError, ModelError, StoreError
from node.evaluate.cases import Case
from node.paths import write_atomically
from node.route.rules import why_not_terms
from node.settings import InferSettings
from node.store.analyses import load_analysis

__all__ = ["Answer", "Application", "open_application", "run_case", "run_cases"]

FAILURE = "failed.json"
TIME = "seconds.json"
NOT_TAKEN = "no Series is of the kind the application takes"


@dataclass(frozen=True, slots=True)
class Application:
    """An application of a site in one state: its handler and the hashes of its code and weights."""

    name: str
    version: str
    site: Path
    handler: Handler
    code_sha256: str
    weights: tuple[tuple[str, str, str], ...]  # name, version, sha256 of each model

    @property
    def fingerprint(self) -> str:
        """Changes with the code, a model or its manifest: answers of another state are never used again."""
        parts = (self.name, self.version, self.code_sha256, *(part for model in self.weights for part in model))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What became of a case: an Analysis, or why there is none."""

    analysis: Analysis | None
    failure: str = ""
    is_taken: bool = True
    seconds: float = 0.0


def open_application(site: Path, name: str) -> Application:
    """Load a handler of a site and note what it is made of.

    Raises
    ------
    EvaluationError
        If there is none of that name, or a model it needs cannot be used.
    """
    try:
        handler = infer.load_handler(site / "handlers", name)
        weights = []
        for model in handler.models:
            card = infer.load_cards(site / "models")[model]
            infer.verify_model(card, site / "models" / model)
            weights.append((card.name, card.version, card.sha256))
    except (HandlerError, ModelError) as error:
        raise EvaluationError(str(error)) from error
    except KeyError as error:
        raise EvaluationError(f"application {name} needs the model {error.args[0]!r}, which is not there") from error
    return Application(name, handler.version, site, handler, _code_sha256(site, handler), tuple(weights))


def _code_sha256(site: Path, handler: Handler) -> str:
    """Of the handler's file and of the manifests beside its models, which hold thresholds and calibration."""
    files = [
        site / "handlers" / f"{handler.name}.py",
        *(site / "models" / name / "model.toml" for name in handler.models),
    ]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def run_cases(
    application: Application,
    cases: Sequence[Case],
    work: Path,
    settings: InferSettings,
    *,
    on_case: Callable[[Case, Answer], None] = lambda _case, _answer: None,
    retry_failed: bool = False,
) -> dict[int, Answer]:
    """Read every case that has no answer yet, one after the other.

    Returns
    -------
    The answer of each case by its number.
    """
    found = {}
    for case in cases:
        folder = work / f"{application.name}-{application.fingerprint[:12]}" / f"{case.number:05d}"
        found[case.number] = run_case(application, case.study, folder, settings, retry_failed=retry_failed)
        on_case(case, found[case.number])
    return found


def run_case(
    application: Application, study: Study, folder: Path, settings: InferSettings, *, retry_failed: bool = False
) -> Answer:
    """Read one study, or give the answer that is there from an earlier run over the same images."""
    terms = application.handler.terms
    series = tuple(one for one in study.series if not why_not_terms(terms, one))
    if not series:
        return Answer(None, NOT_TAKEN, is_taken=False)
    analysis_folder = folder / _images_digest(series)
    kept = _kept(analysis_folder, retry_failed=retry_failed)
    if kept is not None:
        return kept
    assignment = Assignment(
        assignment_id=derive_uid("evaluation", study.study_instance_uid, application.fingerprint),
        study_instance_uid=study.study_instance_uid,
        generation=1,
        handler=application.name,
        rule="evaluation",
        priority=Priority.ROUTINE,
        destinations=(),
        series_uids=tuple(one.series_instance_uid for one in series),
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    started = time.monotonic()
    try:
        infer.infer(assignment, study, site=application.site, folder=analysis_folder, settings=settings)
        answer = Answer(load_analysis(analysis_folder), seconds=time.monotonic() - started)
        _keep(analysis_folder.with_suffix(f".{TIME}"), {"seconds": answer.seconds})
    except (InferenceError, StoreError) as error:
        answer = Answer(None, str(error), seconds=time.monotonic() - started)
        _keep(analysis_folder.with_suffix(f".{FAILURE}"), {"failure": answer.failure, "seconds": answer.seconds})
    return answer


def _images_digest(series: Sequence[Series]) -> str:
    digests = sorted(instance.digest for one in series for instance in one.instances)
    return hashlib.sha256("\0".join(digests).encode()).hexdigest()[:16]


def _kept(folder: Path, *, retry_failed: bool) -> Answer | None:
    failure = folder.with_suffix(f".{FAILURE}")
    if folder.is_dir():
        try:
            return Answer(load_analysis(folder), seconds=_seconds(folder.with_suffix(f".{TIME}")))
        except StoreError:
            return None  # read again: it was cut short or changed
    if failure.is_file() and not retry_failed:
        record = json.loads(failure.read_text(encoding="utf-8"))
        return Answer(None, str(record["failure"]), seconds=float(record["seconds"]))
    return None


def _seconds(path: Path) -> float:
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) if path.is_file() else 0.0


def _keep(path: Path, record: dict[str, object]) -> None:
    write_atomically(path, json.dumps(record).encode(), mode=0o600)
