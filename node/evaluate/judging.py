"""From labels and answers to an evaluation: every figure of a kind, in all, by scanner, by tier, and as curves."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from node.errors import EvaluationError
from node.evaluate.calibration import Reliability, reliability
from node.evaluate.cases import Case, Folder
from node.evaluate.evaluation import Curve, Data, Kind, Maker, Scanner, TierRow
from node.evaluate.figures import claims, estimates, figures, patient_places
from node.evaluate.interval import Resampling, exact_proportion
from node.evaluate.labels import Label, Labels
from node.evaluate.records import CaseResult, Estimate, Outcome
from node.evaluate.running import Answer, Application
from node.evaluate.scoring import score_case
from node.evaluate.statistic import Froc, Ratio, Roc

__all__ = ["data_of", "judge_kind", "maker_of", "results_of", "score_pairs"]

FEWEST_FOR_RELIABILITY = 10


def maker_of(application: Application) -> Maker:
    """What a report says of an application."""
    handler = application.handler
    return Maker(
        handler.name,
        handler.version,
        handler.manufacturer,
        str(handler.basis),
        application.code_sha256,
        application.weights,
        handler.parameters,
    )


def results_of(
    kind: str, labels: Labels, cases: Sequence[Case], missing: Mapping[str, int], answers: Mapping[int, Answer]
) -> list[CaseResult]:
    """Compare every study labelled for a kind with its answer; labelled studies without images are there as missing."""
    by_uid = {case.study.study_instance_uid: case for case in cases}
    found = []
    for uid, labelled in labels.by_study.items():
        for label in labelled:
            if label.kind != kind:
                continue
            if uid in by_uid:
                found.append(_scored(by_uid[uid], label, answers))
            else:
                number = missing[uid]
                found.append(CaseResult(number, -number, "", Outcome.MISSING, label.is_positive))
    return sorted(found, key=lambda one: one.number)


def _scored(case: Case, label: Label, answers: Mapping[int, Answer]) -> CaseResult:
    try:
        return score_case(case, label, answers[case.number])
    except EvaluationError as error:
        raise EvaluationError(f"case {case.number}: {error}") from error


def data_of(
    labels: Labels, folder: Folder, missing: Mapping[str, int], cases: Sequence[Case], answers: Mapping[int, Answer]
) -> Data:
    """Count what there is, and what is left aside."""
    uids = {study.study_instance_uid for study in folder.studies}
    seconds = [answers[case.number].seconds for case in cases if answers[case.number].analysis is not None]
    return Data(
        labels_sha256=labels.sha256,
        studies=len(uids),
        labelled=len(uids & set(labels.by_study)),
        unlabelled=len(uids - set(labels.by_study)),
        missing=len(missing),
        patients=len({case.patient for case in cases}),
        other_files=folder.other_files,
        unreadable_files=folder.unreadable_files,
        median_s=float(np.median(seconds)) if seconds else None,
        slowest_s=max(seconds, default=None),
    )


def judge_kind(kind: str, results: Sequence[CaseResult], resampling: Resampling) -> Kind:
    """Every figure of one kind of finding: in all, by scanner, by tier, and as curves."""
    with_images = [one for one in results if one.outcome is not Outcome.MISSING]
    names = sorted({one.scanner for one in with_images})
    by_scanner = [(name, [one for one in with_images if one.scanner == name]) for name in names]
    reasons = Counter((str(one.outcome), one.reason) for one in with_images if not one.is_read)
    return Kind(
        kind=kind,
        table=_table(results),
        reasons=tuple((outcome, reason, count) for (outcome, reason), count in reasons.most_common()),
        estimates=tuple(estimates(results, resampling)),
        scanners=tuple(Scanner(name, len(some), tuple(estimates(some, resampling))) for name, some in by_scanner),
        tiers=tuple(_tiers(with_images)),
        roc=_roc(with_images),
        froc=_froc(with_images, resampling),
        reliability=_reliability(with_images),
        cases=tuple(results),
    )


def _table(results: Sequence[CaseResult]) -> dict[str, dict[str, int]]:
    names = {True: "positive", False: "negative", None: "unlabelled"}
    table: dict[str, dict[str, int]] = {}
    for one in results:
        answer = ("called" if one.is_called else "silent") if one.is_read else str(one.outcome)
        row = table.setdefault(names[one.is_positive], {})
        row[answer] = row.get(answer, 0) + 1
    return table


def score_pairs(
    results: Sequence[CaseResult], *, of: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.intp], str]:
    """Numbers that were said, whether each was so, and of which patient; of marks where lesions are labelled.

    Parameters
    ----------
    of
        ``score`` or ``probability``.

    Returns
    -------
    Numbers, truths, patients, and ``marks`` or ``cases``. A further mark on a lesion that has one is left out.
    """
    read = [one for one in results if one.is_read and one.is_positive is not None]
    rows: list[tuple[float, bool, int]] = []
    has_places = any(one.lesions for one in read) and any(one.has_places for one in read)
    for one in read:
        if has_places:
            for mark, (is_new, is_off) in zip(one.marks, claims(one.marks, lambda mark: mark.hits), strict=True):
                number = getattr(mark, of)
                if number is not None and (is_new or is_off):
                    rows.append((float(number), is_new, one.patient))
        elif getattr(one, of) is not None:
            rows.append((float(getattr(one, of)), one.is_positive is True, one.patient))
    numbers, truths, patients = zip(*rows, strict=True) if rows else ((), (), ())
    what = "marks" if has_places else "cases"
    return np.array(numbers, np.float64), np.array(truths, np.bool_), np.array(patients, np.intp), what


def _reliability(results: Sequence[CaseResult]) -> Reliability | None:
    numbers, truths, _, _ = score_pairs(results, of="probability")
    return reliability(numbers, truths) if len(numbers) >= FEWEST_FOR_RELIABILITY else None


def _tiers(results: Sequence[CaseResult]) -> list[TierRow]:
    """Of marks where lesions are labelled, else of called cases."""
    rows: list[tuple[str, bool, CaseResult]] = []
    has_places = any(one.lesions for one in results) and any(one.has_places for one in results)
    for one in results:
        if has_places:
            claimed = claims(one.marks, lambda mark: mark.hits)
            rows += [(mark.tier, new, one) for mark, (new, off) in zip(one.marks, claimed, strict=True) if new or off]
        elif one.is_called and one.is_positive is not None:
            rows.append((one.tier, one.is_positive, one))
    found = []
    for tier in ("high", "medium", "review"):
        mine = [(is_true, one) for name, is_true, one in rows if name == tier]
        if mine:
            ratio = Ratio(np.array([float(is_true) for is_true, _ in mine]), np.ones(len(mine)))
            patients = patient_places([one for _, one in mine])
            low, high = exact_proportion(ratio, patients) or (None, None)
            value, people = ratio(np.ones(len(mine))), int(patients.max()) + 1
            unit = "marks" if has_places else "cases"
            share = Estimate("true_share", value, low, high, len(mine), people, of=tier, method="exact", unit_of_n=unit)
            found.append(TierRow(tier, share))
    return found


def _roc(results: Sequence[CaseResult]) -> Curve | None:
    for figure in figures(results):
        if isinstance(figure.statistic, Roc):
            x, y = figure.statistic.curve()
            return Curve(tuple(map(float, x)), tuple(map(float, y)))
    return None


def _froc(results: Sequence[CaseResult], resampling: Resampling) -> Curve | None:
    """Share of lesions found over false marks per case, with the band of the bootstrap."""
    froc = next((one.statistic for one in figures(results) if isinstance(one.statistic, Froc)), None)
    if froc is None:
        return None
    false, found = froc.curve(np.ones(len(results)))
    grid = np.linspace(0.0, max(float(false[-1]), 0.01), 60)
    bands = []
    for weights in resampling.weights(patient_places(results)):
        if weights @ froc.lesions > 0:
            own_false, own_found = froc.curve(weights)
            bands.append(own_found[np.searchsorted(own_false, grid + 1e-12, side="right") - 1])
    value = found[np.searchsorted(false, grid + 1e-12, side="right") - 1]
    low, high = np.percentile(bands, [2.5, 97.5], axis=0)
    return Curve(*(tuple(map(float, part)) for part in (grid, value, low, high)))
