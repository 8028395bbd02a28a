from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from node.domain.findings import Status
from node.domain.work import OutputKind
from tests.unit.report.studies import (
    ALL_KINDS,
    brain_analysis,
    film_analysis,
    film_study,
    make,
    mr_study,
    texts,
    without_findings,
)

KEY = "2.25.101.4"


def key_objects(tmp_path: Path, language: str = "en") -> Dataset:
    study = mr_study(tmp_path)
    return make(brain_analysis(study), study, tmp_path / "out", language=language, kinds=ALL_KINDS).read(
        OutputKind.KEY_OBJECTS
    )


def test_the_list_is_titled_of_interest_and_names_the_outlined_image_alone(tmp_path: Path) -> None:
    ds = key_objects(tmp_path)
    title = ds.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning) == ("113000", "DCM", "Of Interest")
    images = [item for item in ds.ContentSequence if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images] == [KEY]
    (series,) = ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [KEY]


@pytest.mark.parametrize(("language", "word"), [("en", "verified by nobody"), ("zh", "未经医师审核")])
def test_the_list_says_in_its_language_that_nobody_verified_it(tmp_path: Path, language: str, word: str) -> None:
    assert any(word in said for said in texts(key_objects(tmp_path, language)))


@pytest.mark.parametrize("status", [Status.NO_FINDINGS, Status.NOT_EVALUABLE, Status.FAILED])
def test_where_nothing_was_found_there_is_no_key_image(tmp_path: Path, status: Status) -> None:
    study = film_study(tmp_path)
    reason = "" if status is Status.NO_FINDINGS else "it is a knee"
    analysis = without_findings(film_analysis(study), status, reason=reason)
    made = make(analysis, study, tmp_path / "out", kinds=ALL_KINDS)
    assert made.kinds == [OutputKind.TEXT_SR, OutputKind.PDF]
