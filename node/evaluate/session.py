"""One run of ``wetread evaluate``, from folders and files to a finished evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from node.evaluate.cases import Case, number_cases, studies_in
from node.evaluate.challenges import WrongAnatomy, remove_lesions, wrong_anatomy
from node.evaluate.compare import compare
from node.evaluate.evaluation import Evaluation, Kind
from node.evaluate.interval import Resampling
from node.evaluate.judging import data_of, judge_kind, maker_of, results_of
from node.evaluate.labels import Labels, load_labels
from node.evaluate.records import CaseResult
from node.evaluate.running import Answer, Application, run_cases
from node.settings import InferSettings

__all__ = ["Request", "evaluate"]

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it, and of how much."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be evaluated, on what, and how.

    Parameters
    ----------
    second
        Another application, or another version of it in another site, to be compared on the same cases.
    out
        The folder of the report; what is kept for a resume goes to ``work`` in it, for its owner alone.
    wrong_anatomy
        A folder with studies that must be refused.
    """

    application: Application
    data: Path
    labels: Path
    out: Path
    settings: InferSettings
    second: Application | None = None
    wrong_anatomy: Path | None = None
    removes_lesions: bool = False
    retries_failed: bool = False
    resampling: Resampling = field(default_factory=Resampling)


def evaluate(
    request: Request, *, made_at: datetime, progress: Progress = lambda _what, _done, _all: None
) -> Evaluation:
    """Read what has not been read, and judge it all.

    Raises
    ------
    EvaluationError
        If labels, images or the application are not what they must be.
    """
    labels = load_labels(request.labels)
    work = _work_folder(request.out)
    folder = studies_in(request.data)
    labelled = [study for study in folder.studies if study.study_instance_uid in labels.by_study]
    known = {study.study_instance_uid for study in labelled}
    missing_uids = [uid for uid in labels.by_study if uid not in known]
    patients = {**folder.patients, **_named_patients(labels)}
    cases, missing = number_cases(labelled, patients, missing_uids, work)
    applications = [request.application, *([request.second] if request.second else [])]
    answers = [_read(request, one, cases, work, progress) for one in applications]
    kinds = []
    for kind in labels.kinds:
        results = [results_of(kind, labels, cases, missing, one) for one in answers]
        judged = judge_kind(kind, results[0], request.resampling)
        if len(results) > 1:
            judged = replace(judged, differences=tuple(compare(results[0], results[1], request.resampling)))
        kinds.append(_challenged(request, judged, labels, cases, progress))
    return Evaluation(
        made_at=made_at.isoformat(timespec="seconds"),
        application=maker_of(request.application),
        data=data_of(labels, folder, missing, cases, answers[0]),
        resampling=request.resampling,
        kinds=tuple(kinds),
        compared_with=maker_of(request.second) if request.second else None,
        wrong_anatomy=_wrong_anatomy(request, work, progress) if request.wrong_anatomy else None,
        mean_average_precision=_mean_average_precision(kinds),
    )


def _work_folder(out: Path) -> Path:
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    work.chmod(0o700)
    return work


def _named_patients(labels: Labels) -> dict[str, str]:
    """Patients as the labels name them, which counts more than what the headers say."""
    return {uid: f"label\0{one.patient}" for uid, some in labels.by_study.items() for one in some if one.patient}


def _read(
    request: Request, application: Application, cases: Sequence[Case], work: Path, progress: Progress
) -> dict[int, Answer]:
    done = 0

    def advance(_case: Case, _answer: Answer) -> None:
        nonlocal done
        done += 1
        progress(f"{application.name} {application.version}", done, len(cases))

    return run_cases(application, cases, work, request.settings, on_case=advance, retry_failed=request.retries_failed)


def _challenged(request: Request, kind: Kind, labels: Labels, cases: Sequence[Case], progress: Progress) -> Kind:
    """Add the lesion removal where there are located lesions and it was asked for."""
    found: list[CaseResult] = [one for one in kind.cases if one.lesions and one.is_called]
    if not request.removes_lesions or not found:
        return kind
    by_number = {case.number: case for case in cases}
    own = {
        case.number: label
        for case in cases
        for label in labels.by_study[case.study.study_instance_uid]
        if label.kind == kind.kind
    }
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        progress("lesion removal", done, len(found))

    removals = remove_lesions(
        request.application,
        by_number,
        own,
        found,
        work=_work_folder(request.out),
        settings=request.settings,
        on_case=advance,
    )
    return replace(kind, removals=removals)


def _wrong_anatomy(request: Request, work: Path, progress: Progress) -> WrongAnatomy | None:
    if request.wrong_anatomy is None:
        return None
    folder = studies_in(request.wrong_anatomy)
    own_work = work / "wrong_anatomy"
    cases, _ = number_cases(folder.studies, folder.patients, (), own_work)
    return wrong_anatomy(cases, _read(request, request.application, cases, own_work, progress))


def _mean_average_precision(kinds: Sequence[Kind]) -> Mapping[str, float]:
    """Over all kinds that have one."""
    by_overlap: dict[str, list[float]] = {}
    for kind in kinds:
        for one in kind.estimates:
            if one.metric == "ap" and one.value is not None:
                by_overlap.setdefault(one.of, []).append(one.value)
    return {of: float(np.mean(values)) for of, values in by_overlap.items() if len(kinds) > 1}
