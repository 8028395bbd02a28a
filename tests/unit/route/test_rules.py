"""Rules say yes or say why not, in words without patient data."""

from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, MRImageStorage

from node.api import Basis, Handler, Reading, Terms
from node.domain.study import HeaderValue, Instance, Series, Study
from node.domain.work import Priority
from node.route import route
from node.route.rules import why_not, why_not_terms
from node.settings import Condition, Rule

HEADER: dict[str, HeaderValue] = {
    "Modality": "MR",
    "SeriesDescription": " T1 MPRAGE ",
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    "SliceThickness": 1.5,
    "Rows": 256,
    "PatientName": "王^小明",
    "StudyDescription": None,
}


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (Condition("Modality", any_of=("MR",)), ""),
        (Condition("Modality", any_of=("mr",)), ""),
        (Condition("Modality", any_of=("CT", "PT")), "Modality is not CT or PT"),
        (Condition("ImageType", any_of=("PRIMARY",)), ""),
        (Condition("SeriesDescription", matches="(?i)mprage"), ""),
        (Condition("SeriesDescription", matches="FLAIR"), "SeriesDescription is not a match of FLAIR"),
        (Condition("SliceThickness", minimum=1, maximum=2), ""),
        (Condition("SliceThickness", maximum=1), "SliceThickness is not at most 1"),
        (Condition("SeriesDescription", minimum=1), "SeriesDescription is not at least 1"),
        (Condition("Rows", any_of=(256,)), ""),
        (Condition("Columns", any_of=(256,)), "Columns is missing"),
        (Condition("StudyDescription", is_present=True), "StudyDescription is missing"),
        (Condition("StudyDescription", is_present=False), ""),
        (Condition("Rows", is_present=False), "Rows is present"),
    ],
)
def test_a_condition_says_why_not(condition: Condition, reason: str) -> None:
    assert why_not(condition, HEADER) == reason


def test_a_reason_never_holds_what_the_header_says() -> None:
    assert "王" not in why_not(Condition("PatientName", any_of=("李",)), HEADER)


def _series(uid: str, count: int = 3, **header: HeaderValue) -> Series:
    instances = tuple(
        Instance(f"2.25.{uid}{number}", str(MRImageStorage), "", f"2.25.{uid}", Path("a"), 1, "0")
        for number in range(count)
    )
    merged = HEADER | header
    return Series(f"2.25.{uid}", str(merged["Modality"]), instances, merged)


def _handler(name: str, **terms: object) -> Handler:
    return Handler(
        name, "1", "us", Basis.RULE_BASED, "t", Terms(**({"modalities": ("MR",)} | terms)), lambda _s, _m: Reading(())
    )


def test_a_handlers_own_terms_are_asked_after_the_rule() -> None:
    series = _series("1")
    assert why_not_terms(Terms(("MR",)), series) == ""
    assert why_not_terms(Terms(("CT",)), series) == "modality MR is not CT"
    assert why_not_terms(Terms(("MR",), min_instances=4), series) == "3 images are fewer than 4"
    assert "SOP Class" in why_not_terms(Terms(("MR",), sop_class_uids=(str(CTImageStorage),)), series)


def test_every_rule_that_matches_runs_and_each_says_why() -> None:
    study = Study("2.25.9", 2, (_series("1"), _series("2", Modality="CT")))
    rules = (
        Rule("heads", "a", (Condition("Modality", any_of=("MR",)),), Priority.STAT, ("pacs",)),
        Rule("again", "a"),
        Rule("other", "b", (Condition("Rows", minimum=100),)),
        Rule("never", "b", (Condition("Modality", any_of=("US",)),)),
    )
    assignments, tries = route(study, rules, {"a": _handler("a"), "b": _handler("b")})
    assert [(one.handler, one.rule, one.priority, one.series_uids) for one in assignments] == [
        ("a", "heads", Priority.STAT, ("2.25.1",)),
        ("b", "other", Priority.ROUTINE, ("2.25.1",)),
    ]
    assert [one.is_match for one in tries] == [True, True, True, False]
    assert "already given" in tries[1].reason
    assert tries[3].reason == "Modality is not US"


def test_the_same_study_and_generation_always_make_the_same_assignment() -> None:
    study, rules, handlers = Study("2.25.9", 1, (_series("1"),)), (Rule("r", "a"),), {"a": _handler("a")}
    first, _ = route(study, rules, handlers)
    again, _ = route(study, rules, handlers)
    later, _ = route(Study("2.25.9", 2, study.series), rules, handlers)
    assert first == again
    assert first[0].assignment_id != later[0].assignment_id
