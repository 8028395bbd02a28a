import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, JPEG2000Lossless

from node.dicom.charset import normalise
from node.dicom.read import patient_of, read_dataset
from node.domain.findings import Status
from node.domain.study import Study
from node.domain.work import OutputKind
from node.errors import ReportError
from node.report import build, state
from tests.unit.report.studies import (
    MADE_AT,
    SETTINGS,
    TEMPLATES,
    brain_analysis,
    film_analysis,
    film_study,
    make,
    mr_study,
    study_of,
    texts,
    without_findings,
)

ALL = [OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR, OutputKind.SEGMENTATION, OutputKind.HEAT_MAP]
TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
          "AccessionNumber", "ReferringPhysicianName")  # fmt: skip


def test_findings_make_every_object_and_each_in_its_own_series(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    made = make(brain_analysis(study), study, tmp_path / "out")
    assert made.kinds == ALL
    found = {kind: made.read(kind) for kind in ALL}
    assert {kind: int(ds.SeriesNumber) for kind, ds in found.items()} == {
        OutputKind.MEASUREMENT_SR: 9001,
        OutputKind.TEXT_SR: 9002,
        OutputKind.SEGMENTATION: 9003,
        OutputKind.HEAT_MAP: 9005,
    }
    assert [found[kind].SeriesDescription for kind in ALL] == [
        "AI RESULT (unverified)",
        "AI REPORT (text, unverified)",
        "AI SEG brain",
        "AI HEATMAP - NOT FOR DIAGNOSIS",
    ]
    assert len({ds.SeriesInstanceUID for ds in found.values()} | {"2.25.101"}) == 5


@pytest.mark.parametrize("status", [Status.NO_FINDINGS, Status.NOT_EVALUABLE, Status.FAILED])
def test_an_outcome_without_findings_makes_the_readable_report_alone(tmp_path: Path, status: Status) -> None:
    study = film_study(tmp_path)
    reason = "" if status is Status.NO_FINDINGS else "it is a knee"
    made = make(without_findings(film_analysis(study), status, reason=reason), study, tmp_path / "out")
    assert made.kinds == [OutputKind.TEXT_SR]
    assert made.read(OutputKind.TEXT_SR).CompletionFlag == ("PARTIAL" if status is Status.FAILED else "COMPLETE")


def test_heat_maps_of_negatives_are_made_only_if_the_site_asks(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    negative = replace(film_analysis(study), status=Status.NO_FINDINGS, findings=())
    assert OutputKind.HEAT_MAP not in make(negative, study, tmp_path / "a").kinds
    asked = replace(SETTINGS, heat_map_when_negative=True)
    assert OutputKind.HEAT_MAP in make(negative, study, tmp_path / "b", settings=asked).kinds


def test_the_same_analysis_gives_the_same_bytes(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    first = make(brain_analysis(study), study, tmp_path / "a")
    second = make(brain_analysis(study), study, tmp_path / "b")
    for one, other in zip(first.outputs, second.outputs, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert one.sha256 == other.sha256
        assert one.size_bytes == one.path.stat().st_size


def test_a_later_time_alone_changes_no_uid(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    first = make(brain_analysis(study), study, tmp_path / "a")
    second = make(brain_analysis(study), study, tmp_path / "b", made_at=MADE_AT + timedelta(hours=1))
    assert [o.output_id for o in first.outputs] == [o.output_id for o in second.outputs]


def test_any_other_content_changes_every_uid_it_shows_in(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    analysis = film_analysis(study)
    heat = analysis.heat_maps[0].heat.copy()
    heat[50, 50] = 1.0
    longer = replace(analysis.findings[0], score=0.63)
    other_image = replace(study.instances[0], digest="blake3:" + "1" * 64)
    series = replace(study.series[0], instances=(other_image,))
    variants = [
        make(analysis, study, tmp_path / "0"),
        make(analysis, study, tmp_path / "1", language="zh"),
        make(replace(analysis, findings=(longer, *analysis.findings[1:])), study, tmp_path / "2"),
        make(replace(analysis, algorithm=replace(analysis.algorithm, version="2")), study, tmp_path / "3"),
        make(replace(analysis, algorithm=replace(analysis.algorithm, parameters=())), study, tmp_path / "4"),
        make(analysis, replace(study, generation=2), tmp_path / "5", is_correction=True),
        make(analysis, replace(study, series=(series,)), tmp_path / "6"),
        make(analysis, study, tmp_path / "7", template=replace(TEMPLATES["chest_xray"], revision="x")),
    ]
    for kind in (OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR, OutputKind.HEAT_MAP):
        assert len({made.path(kind).stem for made in variants}) == len(variants)
    hotter = replace(analysis, heat_maps=(replace(analysis.heat_maps[0], heat=heat),))
    changed = make(hotter, study, tmp_path / "8")
    assert changed.path(OutputKind.HEAT_MAP).stem != variants[0].path(OutputKind.HEAT_MAP).stem
    assert changed.path(OutputKind.TEXT_SR).stem == variants[0].path(OutputKind.TEXT_SR).stem


def test_a_chinese_patient_keeps_all_groups_of_the_name(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    for output in make(brain_analysis(study), study, tmp_path / "out", language="zh").outputs:
        ds = dcmread(output.path)
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert ds.PatientName.alphabetic == "Wang^XiaoMing"
        assert ds.PatientName.ideographic == "王^小明"
        assert ds.PatientName.phonetic == "ワン^ショウメイ"
        assert (ds.IssuerOfPatientID, ds.StudyDescription) == ("HOSPITAL", "检查")


def test_a_name_in_gbk_under_a_latin_label_arrives_as_chinese(tmp_path: Path) -> None:
    def mislabel(ds: Dataset) -> None:
        ds.SpecificCharacterSet = "GB18030"
        ds.PatientName = "王^小明"

    study = film_study(tmp_path, change=mislabel)
    path = study.instances[0].path
    content = path.read_bytes()
    path.write_bytes(content.replace(b"GB18030 ", b"ISO_IR 100"[:8]).replace(b"GB18030", b"ISO_IR\x20"))
    for output in make(film_analysis(study), study, tmp_path / "out").outputs:
        assert str(dcmread(output.path).PatientName) == "王^小明"


def test_missing_attributes_of_type_2_become_empty_and_nothing_is_invented(tmp_path: Path) -> None:
    def strip(ds: Dataset) -> None:
        for keyword in (*TYPE_2, "IssuerOfPatientID", "StudyDescription", "BodyPartExamined", "SpecificCharacterSet"):
            if keyword in ds:
                delattr(ds, keyword)

    study = mr_study(tmp_path, change=strip)
    for output in make(brain_analysis(study), study, tmp_path / "out").outputs:
        ds = dcmread(output.path)
        assert all(keyword in ds and not ds[keyword].value for keyword in TYPE_2)
        assert "ReferencedRequestSequence" not in ds


def test_values_that_are_not_what_their_vr_says_do_not_reach_a_result(tmp_path: Path) -> None:
    def spoil(ds: Dataset) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.PatientAge = "forty"
            ds.StudyTime = "noon"

    study = film_study(tmp_path, change=spoil)
    made = make(film_analysis(study), study, tmp_path / "out")
    assert len(made.outputs) == 3


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, JPEG2000Lossless])
def test_the_transfer_syntax_of_the_images_does_not_matter(tmp_path: Path, syntax: str) -> None:
    study = mr_study(tmp_path)
    instances = []
    for instance in study.instances:
        ds = dcmread(instance.path)
        if syntax == JPEG2000Lossless:
            ds.compress(JPEG2000Lossless, generate_instance_uid=False)
            ds.save_as(instance.path)
        else:
            ds.PixelData = np.frombuffer(ds.PixelData, np.uint16).byteswap().tobytes()
            ds.file_meta.TransferSyntaxUID = syntax
            dcmwrite(instance.path, ds, little_endian=False, implicit_vr=False, force_encoding=True)
        instances.append(replace(instance, transfer_syntax_uid=syntax))
    encoded = study_of(instances, study_uid=study.study_instance_uid)
    made = make(brain_analysis(encoded), encoded, tmp_path / "out")
    assert made.kinds == ALL


def test_a_study_of_two_patients_is_refused(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    ds = dcmread(study.instances[3].path)  # the key image
    ds.PatientID = "SOMEBODY-ELSE"
    ds.save_as(study.instances[3].path)
    with pytest.raises(ReportError, match="another PatientID") as caught:
        make(brain_analysis(study), study, tmp_path / "out")
    assert "SOMEBODY" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


def test_an_image_filed_under_a_wrong_study_is_refused(tmp_path: Path) -> None:
    study = replace(mr_study(tmp_path), study_instance_uid="2.25.999")
    with pytest.raises(ReportError, match="StudyInstanceUID"):
        make(brain_analysis(study), study, tmp_path / "out")


def test_an_image_of_another_study_cannot_be_evidence(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    with pytest.raises(ReportError, match=r"2\.25\.666"):
        make(replace(film_analysis(study), source_uids=("2.25.666",)), study, tmp_path / "out")


def test_a_statement_of_another_analysis_is_refused(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    analysis = film_analysis(study)
    statement = state(analysis, TEMPLATES["chest_xray"], study_instance_uid=study.study_instance_uid, language="en",
                      made_at=MADE_AT, is_correction=False)  # fmt: skip
    other = without_findings(analysis, Status.NO_FINDINGS)
    with pytest.raises(ReportError, match="not made from this analysis"):
        build(other, statement, TEMPLATES["chest_xray"], study=study, folder=tmp_path / "out", settings=SETTINGS)


def test_a_failure_before_any_image_was_read_refers_to_the_whole_study(tmp_path: Path) -> None:
    study: Study = mr_study(tmp_path)
    failed = replace(without_findings(brain_analysis(study), Status.FAILED, reason="no memory"), source_uids=())
    ds = make(failed, study, tmp_path / "out").read(OutputKind.TEXT_SR)
    references = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert len(references) == len(study.instances)


def test_a_correction_names_the_reports_it_replaces_and_says_so(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    first = make(film_analysis(study), study, tmp_path / "1")
    grown = replace(study, generation=2)
    second = make(film_analysis(grown), grown, tmp_path / "2", is_correction=True, previous=first.outputs)
    for kind in (OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR):
        old, new = first.read(kind), second.read(kind)
        assert new.SeriesInstanceUID != old.SeriesInstanceUID
        series = new.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
        assert series.SeriesInstanceUID == old.SeriesInstanceUID
        assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert any("replaces an earlier one" in said for said in texts(second.read(OutputKind.TEXT_SR)))


def test_times_are_local_to_the_images(tmp_path: Path) -> None:
    def in_shanghai(ds: Dataset) -> None:
        ds.TimezoneOffsetFromUTC = "+0800"

    study = film_study(tmp_path, change=in_shanghai)
    ds = make(film_analysis(study), study, tmp_path / "out").read(OutputKind.MEASUREMENT_SR)
    assert (ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC) == ("20260301", "203015", "+0800")
    assert ds.ContributingEquipmentSequence[0].ContributionDateTime == "20260301203015+0800"


def test_the_order_is_referenced_with_the_numbers_that_are_known(tmp_path: Path) -> None:
    def ordered(ds: Dataset) -> None:
        item = Dataset()
        item.RequestedProcedureID = "RP1"
        ds.RequestAttributesSequence = [item]
        ds.PlacerOrderNumberImagingServiceRequest = "PL1"

    study = film_study(tmp_path, change=ordered)
    ds = make(film_analysis(study), study, tmp_path / "out").read(OutputKind.TEXT_SR)
    request = ds.ReferencedRequestSequence[0]
    assert request.AccessionNumber == "ACC1"
    assert request.PlacerOrderNumberImagingServiceRequest == "PL1"
    assert request.FillerOrderNumberImagingServiceRequest == ""
    assert request.RequestedProcedureID == "RP1"


def test_every_object_says_preliminary_or_unverified_and_names_node_and_model(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    made = make(brain_analysis(study), study, tmp_path / "out")
    for output in made.outputs:
        ds = dcmread(output.path)
        assert ds.Manufacturer == "Wetread"
        assert ds.InstitutionName == "Example Hospital"
        equipment = ds.ContributingEquipmentSequence[0]
        assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("brain_mr", "1.0.0")
        assert "ab" * 32 in equipment.ContributionDescription
        assert ds.file_meta.ImplementationVersionName.startswith("WETREAD")
    for kind in (OutputKind.MEASUREMENT_SR, OutputKind.TEXT_SR):
        ds = made.read(kind)
        assert (ds.PreliminaryFlag, ds.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


def test_the_patient_of_a_result_is_the_patient_of_its_images(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    expected = patient_of(normalise(read_dataset(study.instances[0].path)))
    for output in make(brain_analysis(study), study, tmp_path / "out").outputs:
        assert patient_of(normalise(read_dataset(output.path))) == expected
