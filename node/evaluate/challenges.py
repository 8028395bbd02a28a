"""Two tests no good figure replaces: is the wrong anatomy refused, and does a finding go when its lesion is gone?"""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from node.dicom.read import read_dataset
from node.domain.study import Instance, Study
from node.domain.volume import Mask
from node.errors import EvaluationError
from node.evaluate.cases import Case
from node.evaluate.figures import patient_places
from node.evaluate.geometry import Plane, PlaneKey, planes_of, truth_on
from node.evaluate.healing import grown, heal
from node.evaluate.interval import exact_proportion
from node.evaluate.labels import Label, Lesion
from node.evaluate.records import CaseResult, Estimate, Outcome
from node.evaluate.running import Answer, Application, run_case
from node.evaluate.scoring import labelled_lesions, score_case
from node.evaluate.statistic import Ratio
from node.settings import InferSettings
from node.store.digest import dataset_digest

__all__ = ["Removal", "Removals", "WrongAnatomy", "remove_lesions", "wrong_anatomy"]


@dataclass(frozen=True, slots=True)
class WrongAnatomy:
    """Studies that the application must not read: what became of each, and the share that was refused.

    Refused by a gate of its own, or never taken because of modality; `false_findings` counts those with a finding.
    """

    refused: Estimate
    outcomes: Mapping[str, int]
    false_findings: int
    read: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """One case whose lesions were taken out of its images: how many had been found, how many of these are gone."""

    number: int
    patient: int
    found: int
    vanished: int
    outcome: Outcome
    score_before: float | None
    score_after: float | None


@dataclass(frozen=True, slots=True)
class Removals:
    """All cases with a found lesion, and the share of findings that went with the lesion.

    A case that is not read any more after the removal proves nothing and is counted apart.
    """

    vanished: Estimate
    cases: tuple[Removal, ...]
    not_read: int


def wrong_anatomy(cases: Sequence[Case], answers: Mapping[int, Answer]) -> WrongAnatomy:
    """Count how an application answered to studies of other parts of the body."""
    nothing = [Label(case.study.study_instance_uid) for case in cases]
    results = [score_case(case, label, answers[case.number]) for case, label in zip(cases, nothing, strict=True)]
    refused = [float(one.outcome in (Outcome.NOT_EVALUABLE, Outcome.NOT_TAKEN)) for one in results]
    return WrongAnatomy(
        refused=_share("wrong_anatomy_refused", results, refused, [1.0] * len(results), "cases"),
        outcomes=dict(Counter(str(one.outcome) for one in results)),
        false_findings=sum(one.is_called for one in results),
        read=tuple(one.number for one in results if one.outcome is Outcome.READ),
    )


def remove_lesions(
    application: Application,
    cases: Mapping[int, Case],
    labels: Mapping[int, Label],
    results: Sequence[CaseResult],
    *,
    work: Path,
    settings: InferSettings,
    on_case: Callable[[], None] = lambda: None,
) -> Removals:
    """Take the labelled lesions out of every case where one was found, and let the application read it again.

    The changed images are made for this only and are removed at once: nobody must ever take them for a patient's.
    """
    made = []
    for before in results:
        if not _found(before):
            continue
        case, label = cases[before.number], labels[before.number]
        with tempfile.TemporaryDirectory(prefix=".changed-", dir=work) as folder:
            changed = replace(case, study=without_lesions(case.study, label, Path(folder)))
            answer = run_case(application, changed.study, Path(folder) / "answer", settings, retry_failed=True)
            after = score_case(changed, label, answer)
        found = _found(before)
        gone = found - _found(after) if before.has_places else {0} - ({0} if after.is_called else set())
        made.append(
            Removal(
                before.number,
                before.patient,
                len(found),
                len(gone) if after.is_read else 0,
                after.outcome,
                before.score,
                after.score,
            )
        )
        on_case()
    read = [one for one in made if one.outcome is Outcome.READ]
    kept = [next(one for one in results if one.number == item.number) for item in read]
    vanished, found_before = [float(one.vanished) for one in read], [float(one.found) for one in read]
    estimate = _share("lesion_removal_vanished", kept, vanished, found_before, "lesions")
    return Removals(estimate, tuple(made), len(made) - len(read))


def _found(result: CaseResult) -> set[int]:
    """Lesions with a mark; of an application without places 0 if it called a case with labelled lesions."""
    if result.has_places:
        return {lesion for mark in result.marks for lesion in mark.hits}
    return {0} if result.is_called and result.lesions else set()


def _share(
    metric: str, results: Sequence[CaseResult], above: Sequence[float], below: Sequence[float], unit_of_n: str
) -> Estimate:
    n = int(sum(below))
    if not n:
        return Estimate(metric, None, unit_of_n=unit_of_n)
    patients = patient_places(results)
    interval = exact_proportion(Ratio(np.array(above), np.array(below)), patients)
    low, high = interval or (None, None)
    people = int(patients.max()) + 1
    return Estimate(metric, sum(above) / n, low, high, n, people, method="exact", unit_of_n=unit_of_n)


def without_lesions(study: Study, label: Label, folder: Path) -> Study:
    """The study with healthy tissue in place of every labelled lesion; changed images are written to `folder`."""
    planes = planes_of(study)
    lesions = labelled_lesions(label, planes)
    changed = {
        uid: _changed(planes, [key for key in planes if key[0] == uid], lesions, folder)
        for uid in {key[0] for key in planes}
    }
    if not any(changed.values()):
        raise EvaluationError("the labelled lesions are on no image of their study")
    series = tuple(
        replace(one, instances=tuple(changed[item.sop_instance_uid] or item for item in one.instances))
        for one in study.series
    )
    return replace(study, series=series)


def _changed(
    planes: Mapping[PlaneKey, Plane], keys: Sequence[PlaneKey], lesions: Sequence[Lesion], folder: Path
) -> Instance | None:
    masks = {key: truth_on(key, lesions, planes) for key in keys}
    if not any(mask.any() for mask in masks.values()):
        return None
    instance = planes[keys[0]].instance
    ds = read_dataset(instance.path, with_pixels=True)
    array = pixel_array(ds, raw=True).copy()
    if array.dtype.kind not in "iu" or array.ndim != (3 if len(keys) > 1 else 2):
        raise EvaluationError("a lesion can be taken out of grey images only")
    for key, mask in masks.items():
        if mask.any():
            plane = array if array.ndim == 2 else array[(key[1] or 1) - 1]
            plane[...] = _healed(plane.astype(np.float64), mask).astype(array.dtype)
    path = folder / f"{len(list(folder.iterdir()))}.dcm"
    _write(ds, array.tobytes(), path)
    digest, size_bytes = dataset_digest(path)
    return replace(
        instance, path=path, digest=digest, size_bytes=size_bytes, transfer_syntax_uid=str(ExplicitVRLittleEndian)
    )


def _healed(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], mask: Mask
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    lesion = grown(mask)
    return np.clip(np.round(heal(values, lesion, lesion)), values.min(), values.max())


def _write(ds: Dataset, pixels: bytes, path: Path) -> None:
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OW"
    ds["PixelData"].is_undefined_length = False
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=True)
