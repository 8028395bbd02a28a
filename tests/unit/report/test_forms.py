from pathlib import Path

from node.domain.work import STANDARD_KINDS, Output, OutputKind
from node.report import deliveries, kinds_by_language, named_reports
from node.settings import Destination, DicomDestination, Hl7Destination

PDF_TOO = (OutputKind.TEXT_SR, OutputKind.PDF)


def pacs(name: str, language: str = "", objects: tuple[OutputKind, ...] = STANDARD_KINDS) -> DicomDestination:
    return DicomDestination(name, "127.0.0.1", 104, "PACS", objects, language=language)


def ris(language: str = "") -> Hl7Destination:
    return Hl7Destination("ris", "127.0.0.1", 2575, language=language)


def output(uid: str, kind: OutputKind, language: str = "") -> Output:
    return Output(uid, kind, Path(uid), "", 0, language=language)


def test_a_site_of_one_language_makes_everything_once() -> None:
    assert kinds_by_language([pacs("a"), ris()], "zh") == {"zh": frozenset(STANDARD_KINDS)}


def test_without_any_destination_the_standard_forms_are_made() -> None:
    assert kinds_by_language([None], "en") == {"en": frozenset(STANDARD_KINDS)}


def test_forms_without_words_are_made_once_and_the_others_in_each_language_that_asks() -> None:
    maps = pacs("b", "zh", (*PDF_TOO, OutputKind.PARAMETRIC_MAP))
    assert kinds_by_language([pacs("a"), maps], "en") == {
        "en": frozenset({*STANDARD_KINDS, OutputKind.PARAMETRIC_MAP}),
        "zh": frozenset(PDF_TOO),
    }


def test_the_first_language_is_one_that_an_archive_gets() -> None:
    assert list(kinds_by_language([ris(), pacs("a", "zh")], "en")) == ["zh", "en"]


def test_a_language_of_messages_alone_makes_no_object() -> None:
    assert kinds_by_language([pacs("a"), ris("zh")], "en")["zh"] == frozenset()


def test_each_archive_gets_its_own_language_and_what_has_none() -> None:
    outputs = [
        output("1", OutputKind.MEASUREMENT_SR),
        output("2", OutputKind.TEXT_SR, "en"),
        output("3", OutputKind.TEXT_SR, "zh"),
        output("4", OutputKind.PDF, "zh"),
    ]
    wanted: dict[str, Destination | None] = {"a": pacs("a"), "b": pacs("b", "zh"), "ris": ris()}
    message = output("M", OutputKind.ORU)
    assert deliveries(outputs, {"ris": message}, wanted, "en") == [
        ("1", "a"), ("2", "a"), ("1", "b"), ("3", "b"), ("M", "ris"),
    ]  # fmt: skip
    assert [one.output_id for one in named_reports(outputs, "zh")] == ["1", "3"]
    assert [one.output_id for one in named_reports(outputs, "fr")] == ["1", "2"]


def test_a_destination_that_is_no_more_is_owed_everything() -> None:
    outputs = [output("1", OutputKind.MEASUREMENT_SR), output("2", OutputKind.PDF, "zh")]
    assert deliveries(outputs, {}, {"gone": None}, "en") == [("1", "gone"), ("2", "gone")]
