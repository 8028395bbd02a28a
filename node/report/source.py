"""The study a result is about: its header, its images, and the proof that it is one patient's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from node.dicom.charset import normalise
from node.dicom.elements import number, text
from node.dicom.persons import differences, raw_identity
from node.dicom.read import order_of, patient_of, read_dataset
from node.domain.findings import Analysis, HeatMap, Region
from node.domain.study import Instance, Order, Patient, Study
from node.errors import ReportError

__all__ = ["Source", "open_source"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What results copy from and refer to.

    Parameters
    ----------
    header
        Of the first image that was read, in Unicode; its patient and study modules go onto every result.
    evidence
        Every image that was read, or the whole study if the analysis failed before it read one.
    instances
        All of the study, by SOP Instance UID.
    """

    study: Study
    header: Dataset
    patient: Patient
    order: Order
    evidence: tuple[Instance, ...]
    instances: Mapping[str, Instance]
    _images: dict[str, Dataset] = field(default_factory=dict)
    _same: set[tuple[object, ...]] = field(default_factory=set)

    def instance(self, sop_instance_uid: str) -> Instance:
        """The stored image; raises `ReportError` if it is none of this study's."""
        if sop_instance_uid not in self.instances:
            raise ReportError(f"image {sop_instance_uid} is not part of study {self.study.study_instance_uid}")
        return self.instances[sop_instance_uid]

    def image(self, sop_instance_uid: str) -> Dataset:
        """Header of an image, in Unicode, without pixels; raises `ReportError` if it is another patient's."""
        if sop_instance_uid not in self._images:
            ds = read_dataset(self.instance(sop_instance_uid).path)
            self._check_same_patient(ds)
            self._images[sop_instance_uid] = normalise(ds)
        return self._images[sop_instance_uid]

    def raw_image(self, sop_instance_uid: str) -> Dataset:
        """Like `image`, but as stored: ten times faster, for the geometry of hundreds of slices."""
        ds = read_dataset(self.instance(sop_instance_uid).path)
        self._check_same_patient(ds)
        return ds

    def frame_number(self, region: Region | HeatMap) -> int | None:
        """Frame of a region or heat map, None on an image of one frame (PS3.3 10.3: only multi-frame ones take one).

        Raises
        ------
        ReportError
            If the image has no such frame.
        """
        frames = number(self.image(region.sop_instance_uid), "NumberOfFrames") or 1
        if region.frame_number is not None and not 1 <= region.frame_number <= frames:
            raise ReportError(f"image {region.sop_instance_uid} has {frames:g} frames, not {region.frame_number}")
        return region.frame_number if frames > 1 else None

    def _check_same_patient(self, ds: Dataset) -> None:
        uid = text(ds, "SOPInstanceUID")
        if text(ds, "StudyInstanceUID") != self.study.study_instance_uid:
            raise ReportError(f"image {uid} carries another StudyInstanceUID than the study it is filed under")
        raw = raw_identity(ds)
        if raw in self._same:
            return
        found = differences(self.patient, patient_of(normalise(ds)))
        if found:
            raise ReportError(f"image {uid} carries another {', '.join(found)} than the first image of its study")
        self._same.add(raw)


def open_source(analysis: Analysis, study: Study, order: Order | None = None) -> Source:
    """Read what results need of the study, and make sure that it is one patient's.

    The first image of every Series that was read is compared with the first of all; so is every
    image that a result shows, outlines or segments.

    Raises
    ------
    ReportError
        If the analysis names an image that the study does not hold, if the study holds none, or if
        its images belong to more than one patient or study.
    UnreadableInstanceError
        If a stored image cannot be read.
    """
    instances = {instance.sop_instance_uid: instance for instance in study.instances}
    foreign = [uid for uid in analysis.source_uids if uid not in instances]
    if foreign:
        raise ReportError(f"the analysis read image {foreign[0]}, which is not part of {study.study_instance_uid}")
    shown = [region.sop_instance_uid for finding in analysis.findings for region in finding.regions]
    shown += [heat_map.sop_instance_uid for heat_map in analysis.heat_maps]
    named = dict.fromkeys((*analysis.source_uids, *(uid for uid in shown if uid in instances)))
    evidence = tuple(instances[uid] for uid in named) or study.instances
    if not evidence:
        raise ReportError(f"study {study.study_instance_uid} holds no image to report on")
    header = normalise(read_dataset(evidence[0].path))
    source = Source(study, header, patient_of(header), order or order_of(header), evidence, instances)
    for first_of_series in {item.series_instance_uid: item for item in reversed(evidence)}.values():
        source.image(first_of_series.sop_instance_uid)
    return source
