import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from node.domain.findings import Certainty, Status, Tier
from node.domain.study import Study
from node.domain.work import OutputKind
from node.report.glyphs import shown_in
from tests.unit.report.studies import (
    ALL_KINDS,
    NETWORK,
    Change,
    Made,
    brain_analysis,
    film_analysis,
    film_study,
    make,
    mr_study,
    without_findings,
)

PDF = frozenset({OutputKind.PDF})


def pdf_of(made: Made, folder: Path) -> Path:
    ds = made.read(OutputKind.PDF)
    path = folder / "page.pdf"
    path.write_bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    return path


def words_on(path: Path) -> str:
    """What the page says, as another maker's program reads it, without its line breaks."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    done = subprocess.run(["pdftotext", "-layout", str(path), "-"], capture_output=True, check=True)
    return re.sub(r"\s+", " ", done.stdout.decode("utf-8"))


def film_page(tmp_path: Path, language: str, change: Change | None = None) -> str:
    study = film_study(tmp_path, change=change)
    made = make(film_analysis(study), study, tmp_path / "out", language=language, kinds=PDF)
    return words_on(pdf_of(made, tmp_path))


@pytest.mark.peer
@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ["Wang XiaoMing", "P-0042", "1980-01-02", "male", "ACC1", "UNVERIFIED", "opacity-1", "14", "mm",
                "chest_xray 1.2.0", "not stated", "ACR Appropriateness Criteria", "Not looked at: pneumothorax",
                "verified by nobody"]),
        ("zh", ["王小明", "P-0042", "男", "未经审核", "AI 有提示", "opacity-2", "未评估：气胸", "依据", "测量项"]),
    ],
)  # fmt: skip
def test_the_page_says_who_what_how_and_that_nobody_verified_it(tmp_path: Path, language: str, said: list[str]) -> None:
    page = film_page(tmp_path, language)
    assert [words for words in said if words not in page] == []


@pytest.mark.peer
@pytest.mark.parametrize(
    ("status", "reason", "said", "unsaid"),
    [
        (Status.NO_FINDINGS, "", "NO AI FINDING (not the same as normal)", "ANALYSIS FAILED"),
        (Status.NOT_EVALUABLE, "it is a knee", "NOT EVALUABLE", "Not looked at"),
        (Status.FAILED, "no memory", "read the study as if no AI had seen it", "Not looked at"),
    ],
)
def test_no_outcome_reads_like_another(tmp_path: Path, status: Status, reason: str, said: str, unsaid: str) -> None:
    study = film_study(tmp_path)
    analysis = without_findings(film_analysis(study), status, reason=reason)
    page = words_on(pdf_of(make(analysis, study, tmp_path / "out", kinds=PDF), tmp_path))
    assert said in page
    assert unsaid not in page
    assert reason in page


@pytest.mark.peer
def test_a_plain_measurement_is_no_finding_and_gets_no_advice(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    page = words_on(pdf_of(make(brain_analysis(study), study, tmp_path / "out", kinds=PDF), tmp_path))
    assert "AI MEASUREMENTS (no judgement on disease)" in page
    assert "Recommendations" not in page
    assert "1385 ml" in page


@pytest.mark.peer
def test_a_certainty_stands_with_its_tier(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    analysis = film_analysis(study)
    sure = replace(analysis.findings[0], certainty=Certainty(0.9, Tier.HIGH))
    learned = replace(analysis, algorithm=NETWORK, findings=(sure,))
    page = words_on(pdf_of(make(learned, study, tmp_path / "out", kinds=PDF), tmp_path))
    assert "90 % (high)" in page


@pytest.mark.peer
def test_text_of_a_sender_never_becomes_a_command(tmp_path: Path) -> None:
    hostile = '#read("/etc/passwd") $x$ *b* \\ "'

    def rename(ds: Dataset) -> None:
        ds.PatientID = '#panic("x")'
        ds.StudyDescription = hostile

    page = film_page(tmp_path, "en", rename)
    assert '#panic("x")' in page
    assert '#read("/etc/passwd") $x$ *b*' in page


@pytest.mark.peer
def test_a_character_that_the_font_lacks_is_named_and_not_left_out(tmp_path: Path) -> None:
    def rename(ds: Dataset) -> None:
        ds.PatientName = "Kang^Min=강^민"

    assert "[U+AC15]" in film_page(tmp_path, "en", rename)


def test_a_character_without_a_glyph_is_said_by_its_number() -> None:
    shown = shown_in({"a": ["王A강\n", 3]})
    assert shown == {"a": ["王A[U+AC15] ", 3]}


@pytest.mark.peer
def test_the_fonts_are_in_the_file(tmp_path: Path) -> None:
    if shutil.which("pdffonts") is None:
        pytest.skip("pdffonts is not installed")
    study = film_study(tmp_path)
    path = pdf_of(make(film_analysis(study), study, tmp_path / "out", language="zh", kinds=PDF), tmp_path)
    done = subprocess.run(["pdffonts", str(path)], capture_output=True, text=True, check=True)
    fonts = done.stdout.splitlines()[2:]
    assert fonts
    assert all("NotoSansSC" in font and " yes yes yes " in font for font in fonts)


def test_the_same_statement_gives_the_same_page(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    one, other = (make(brain_analysis(study), study, tmp_path / name, kinds=PDF).path(OutputKind.PDF) for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_the_object_says_what_it_is_made_from_and_what_it_replaces(tmp_path: Path) -> None:
    study = film_study(tmp_path)
    first = make(film_analysis(study), study, tmp_path / "1", kinds=ALL_KINDS)
    grown = replace(study, generation=2)
    second = make(
        film_analysis(grown), grown, tmp_path / "2", is_correction=True, previous=first.outputs, kinds=ALL_KINDS
    )
    ds = second.read(OutputKind.PDF)
    assert (ds.Modality, ds.SeriesNumber, ds.VerificationFlag, ds.BurnedInAnnotation) == (
        "DOC", 9009, "UNVERIFIED", "YES"
    )  # fmt: skip
    assert ds.ConceptNameCodeSequence[0].CodeValue == "18748-4"
    assert [item.ReferencedSOPInstanceUID for item in ds.SourceInstanceSequence] == ["2.25.201.1"]
    replaced = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in replaced] == [first.path(OutputKind.PDF).stem]


def test_another_heat_is_another_page(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    hotter = replace(analysis.heat_maps[0], heat=analysis.heat_maps[0].heat * np.float32(0.5))
    one = make(analysis, study, tmp_path / "1", kinds=PDF)
    other = make(replace(analysis, heat_maps=(hotter,)), study, tmp_path / "2", kinds=PDF)
    assert one.path(OutputKind.PDF).stem != other.path(OutputKind.PDF).stem


@pytest.mark.parametrize("study_of", [film_study, mr_study])
def test_without_a_heat_map_the_page_shows_the_images_that_findings_outline(
    tmp_path: Path, study_of: Callable[[Path], Study]
) -> None:
    study = study_of(tmp_path)
    analysis = replace(film_analysis(study) if study_of is film_study else brain_analysis(study), heat_maps=())
    words = words_on(pdf_of(make(analysis, study, tmp_path / "out", kinds=PDF), tmp_path))
    number = 1 if study_of is film_study else 4
    assert f"Key image: series 3, image {number}" in words
    assert "heat" not in words.lower()


def test_an_image_that_cannot_be_decoded_costs_the_page_its_picture_and_nothing_else(tmp_path: Path) -> None:
    def cut(ds: Dataset) -> None:
        ds.PixelData = ds.PixelData[:100]

    study = film_study(tmp_path, change=cut)
    analysis = replace(film_analysis(study), heat_maps=())
    words = words_on(pdf_of(make(analysis, study, tmp_path / "out", kinds=PDF), tmp_path))
    assert "opacity-1" in words
    assert "Key image" not in words


def test_the_caption_of_a_key_image_names_the_slice_in_the_language_of_the_page(tmp_path: Path) -> None:
    study = mr_study(tmp_path)
    analysis = brain_analysis(study)
    (finding,) = analysis.findings
    for findings in ((finding,), (replace(finding, regions=()),)):  # without, the outlines of the heat map are drawn
        made = make(replace(analysis, findings=findings), study, tmp_path / "out", language="zh", kinds=PDF)
        said = words_on(pdf_of(made, tmp_path))
        assert "第 4/6 层" in said
        assert "slice" not in said
