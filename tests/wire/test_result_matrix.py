"""Every kind of result object in every situation, before programs of other makers.

One study for each situation, all kinds of it built once, and every program asked once.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from node.dicom.charset import normalise
from node.dicom.read import patient_of, read_dataset
from node.domain.findings import Status
from node.domain.study import Study
from node.domain.work import OutputKind
from tests.peers.validators import dciodvfy, dsrdump, tid1500reader
from tests.peers.viewers import faults_of_presentation, shown_with, walk_with_dcmjs
from tests.unit.report.studies import (
    ALL_KINDS,
    VOLUME_ML,
    Made,
    brain_analysis,
    film_analysis,
    film_study,
    make,
    mr_study,
    whole_brain_analysis,
    without_findings,
)

pytestmark = pytest.mark.peer

MEASUREMENTS = (OutputKind.MEASUREMENT_SR, OutputKind.STUDY_SR)
DOCUMENTS = (*MEASUREMENTS, OutputKind.TEXT_SR, OutputKind.KEY_OBJECTS)
ALWAYS = {OutputKind.TEXT_SR, OutputKind.PDF}
OF_A_FILM = ALL_KINDS - {OutputKind.STUDY_SR, OutputKind.PARAMETRIC_MAP, OutputKind.SEGMENTATION}
LEFT_EMPTY = (
    "needed to build DICOMDIR",  # empty is what the images say
    "attribute <Laterality>",  # empty because it is unknown, as the warning asks
)
SUMMARY = {"no_findings": "111241", "not_evaluable": "373121007", "failed": "111245"}


@dataclass(frozen=True, slots=True)
class Case:
    study: Study
    made: Made
    kinds: frozenset[OutputKind]


def positive(folder: Path) -> Case:
    study = mr_study(folder)
    return Case(study, make(whole_brain_analysis(study), study, folder / "out", kinds=ALL_KINDS), ALL_KINDS)


def revised(folder: Path) -> Case:
    study = mr_study(folder)
    first = make(whole_brain_analysis(study), study, folder / "1", kinds=ALL_KINDS)
    grown = replace(study, generation=2)
    again = make(
        whole_brain_analysis(grown), grown, folder / "2", language="zh", is_correction=True,
        previous=first.outputs, kinds=ALL_KINDS,
    )  # fmt: skip
    return Case(grown, again, ALL_KINDS)


def two_languages(folder: Path) -> Case:
    study = film_study(folder)
    return Case(study, make(film_analysis(study), study, folder / "out", kinds=ALL_KINDS, also=("zh",)), OF_A_FILM)


def chinese_in_gb18030(folder: Path) -> Case:
    def encode(ds: Dataset) -> None:
        ds.SpecificCharacterSet = "GB18030"
        ds.PatientName = "Wang^XiaoMing=王^小明"

    study = film_study(folder, change=encode)
    return Case(study, make(film_analysis(study), study, folder / "out", language="zh", kinds=ALL_KINDS), OF_A_FILM)


def without(status: Status, reason: str) -> Callable[[Path], Case]:
    def case(folder: Path) -> Case:
        study = film_study(folder)
        analysis = without_findings(film_analysis(study), status, reason=reason)
        return Case(study, make(analysis, study, folder / "out", language="zh", kinds=ALL_KINDS), frozenset(ALWAYS))

    return case


def without_type_2(folder: Path) -> Case:
    def strip(ds: Dataset) -> None:
        for keyword in (
            "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
            "ReferringPhysicianName", "SpecificCharacterSet", "IssuerOfPatientID", "BodyPartExamined", "SeriesNumber",
        ):  # fmt: skip
            delattr(ds, keyword)
        ds.PatientName = "Wang^XiaoMing"
        ds.StudyDescription = "MR"

    study = mr_study(folder, change=strip)
    made = make(brain_analysis(study), study, folder / "out", kinds=ALL_KINDS)
    return Case(study, made, ALL_KINDS - {OutputKind.STUDY_SR})


CASES = {
    "positive": positive,
    "revised": revised,
    "two_languages": two_languages,
    "gb18030": chinese_in_gb18030,
    "no_findings": without(Status.NO_FINDINGS, ""),
    "not_evaluable": without(Status.NOT_EVALUABLE, "it is a knee"),
    "failed": without(Status.FAILED, "no memory"),
    "without_type_2": without_type_2,
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_every_form_is_there_that_has_something_to_say(cases: dict[str, Case], name: str) -> None:
    assert set(cases[name].made.kinds) == cases[name].kinds


@pytest.mark.parametrize("name", CASES)
def test_dciodvfy_finds_nothing(cases: dict[str, Case], name: str) -> None:
    allowed = LEFT_EMPTY if name == "without_type_2" else ()
    for output in cases[name].made.outputs:
        complaints = [one for one in dciodvfy(output.path) if not any(known in one for known in allowed)]
        assert complaints == [], output.kind


@pytest.mark.parametrize("name", CASES)
def test_dcmtk_reads_every_document_with_the_name_of_the_patient(cases: dict[str, Case], name: str) -> None:
    patient = "Wang^XiaoMing" if name == "without_type_2" else "王^小明"
    for output in cases[name].made.outputs:
        if output.kind in DOCUMENTS:
            assert patient in dsrdump(output.path)


@pytest.mark.parametrize("name", CASES)
def test_dcmjs_reads_every_object_of_the_patient(cases: dict[str, Case], name: str) -> None:
    outputs = cases[name].made.outputs
    for output, read in zip(outputs, walk_with_dcmjs([output.path for output in outputs]), strict=True):
        assert (read["sop_class_uid"], read["sop_instance_uid"]) == (output.sop_class_uid, output.output_id)
        assert read["patient_id"] == "P-0042"
        assert ("小明" in read["patient_name"]) == (name != "without_type_2")
        assert bool(read["items"]) == (output.kind in DOCUMENTS)


def test_dcmjs_finds_the_numbers_of_the_reports(cases: dict[str, Case]) -> None:
    made = cases["positive"].made
    measured, whole = walk_with_dcmjs([made.path(kind) for kind in MEASUREMENTS])
    for read, value, finding in ((measured, VOLUME_ML, "brain-1"), (whole, 33.5, "brain-2")):
        items = read["items"]
        assert [item["value"] for item in items if item["name"] == "112039"] == [finding]
        assert [float(item["value"]) for item in items if item["name"] == "118565006"] == [value]


def test_dcmqi_reads_the_planar_groups(cases: dict[str, Case], tmp_path: Path) -> None:
    read = tid1500reader(cases["positive"].made.path(OutputKind.MEASUREMENT_SR), tmp_path / "read.json")
    (group,) = read["Measurements"]
    assert group["TrackingIdentifier"] == "brain-1"
    assert float(group["measurementItems"][0]["value"]) == VOLUME_ML


@pytest.mark.parametrize("name", SUMMARY)
def test_an_outcome_without_findings_carries_its_own_code(cases: dict[str, Case], name: str) -> None:
    (read,) = walk_with_dcmjs([cases[name].made.path(OutputKind.TEXT_SR)])
    assert [item["value"] for item in read["items"] if item["name"] == "111017"] == [SUMMARY[name]]


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_back_is_the_patient_of_the_images(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    expected = patient_of(normalise(read_dataset(case.study.instances[0].path)))
    for output in case.made.outputs:
        ds = dcmread(output.path)
        assert patient_of(normalise(ds)) == expected
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert ds.StudyInstanceUID == case.study.study_instance_uid


def test_every_kind_has_a_series_of_its_own(cases: dict[str, Case]) -> None:
    numbers = {output.kind: int(dcmread(output.path).SeriesNumber) for output in cases["positive"].made.outputs}
    assert sorted(numbers.values()) == list(range(9001, 9011))
    series = {str(dcmread(output.path).SeriesInstanceUID) for output in cases["positive"].made.outputs}
    assert len(series) == 10


def test_one_finding_has_one_tracking_uid_in_every_form(cases: dict[str, Case]) -> None:
    made = cases["positive"].made
    (measured,) = walk_with_dcmjs([made.path(OutputKind.MEASUREMENT_SR)])
    (uid,) = (item["value"] for item in measured["items"] if item["name"] == "112040")
    segment = made.read(OutputKind.SEGMENTATION).SegmentSequence[0]
    assert (segment.TrackingID, segment.TrackingUID) == ("brain-1", uid)
    state = made.read(OutputKind.PRESENTATION_STATE)
    assert "[brain-1]" in state.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue


def test_forms_with_words_are_made_in_each_language_and_the_others_once(cases: dict[str, Case]) -> None:
    outputs = cases["two_languages"].made.outputs
    for kind in OF_A_FILM:
        languages = sorted(output.language for output in outputs if output.kind is kind)
        assert languages == (["en", "zh"] if kind.has_words else [""])
    assert len({output.output_id for output in outputs}) == len(outputs)


def test_every_document_of_a_revision_names_the_one_it_replaces(cases: dict[str, Case]) -> None:
    made = cases["revised"].made
    for kind in (*MEASUREMENTS, OutputKind.TEXT_SR, OutputKind.PDF):
        (series,) = made.read(kind).PredecessorDocumentsSequence[0].ReferencedSeriesSequence
        assert len(series.ReferencedSOPSequence) == 1
    assert "PredecessorDocumentsSequence" not in made.read(OutputKind.KEY_OBJECTS)  # the IOD has no place for it


def test_dcmtk_shows_the_image_by_the_presentation_state_as_the_heat_map_does(tmp_path: Path) -> None:
    def ramp(ds: Dataset) -> None:
        ds.PixelData = np.linspace(0, 4000, 48 * 40).astype(np.uint16).tobytes()
        ds.WindowCenter, ds.WindowWidth = 1000, 1000

    study = mr_study(tmp_path, change=ramp)
    made = make(brain_analysis(study), study, tmp_path / "out", kinds=ALL_KINDS)
    state = made.path(OutputKind.PRESENTATION_STATE)
    assert faults_of_presentation(state) == set()
    shown = shown_with(state, study.instances[3].path, tmp_path / "shown.pgm")
    expected = np.clip((np.linspace(0, 4000, 48 * 40) - 500) / 1000, 0, 1).reshape(48, 40) * 255
    assert np.abs(shown.astype(float) - expected).max() < 2.5


def test_frames_hold_the_same_pictures_as_single_heat_maps(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    first = analysis.heat_maps[0]
    more = (first, replace(first, sop_instance_uid="2.25.101.5", slice_label="slice 5/6"))
    made = make(replace(analysis, heat_maps=more), study, tmp_path / "out", kinds=ALL_KINDS)
    frames = made.read(OutputKind.HEAT_MAP_FRAMES)
    single = [dcmread(one.path).pixel_array for one in made.outputs if one.kind is OutputKind.HEAT_MAP]
    assert np.array_equal(frames.pixel_array, single)
    assert [int(page) for page in frames.PageNumberVector] == [1, 2]
    assert [item.ReferencedSOPInstanceUID for item in frames.SourceImageSequence] == ["2.25.101.4", "2.25.101.5"]
    assert dciodvfy(made.path(OutputKind.HEAT_MAP_FRAMES)) == []
