"""Rules say yes or say why not, in words without patient data."""

from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, MRImageStorage

from node.api import Terms
from node.domain.study import HeaderValue, Instance, Series, Study
from node.domain.work import Priority
from node.route import route
from node.route.rules import why_not, why_not_terms
from node.settings import Condition, Rule
from tests.unit.route.handlers import handler

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
    routing = route(study, rules, {"a": handler("a"), "b": handler("b")})
    tries = routing.tries
    assert [(one.handler, one.rule, one.priority, one.series_uids) for one in routing.assignments] == [
        ("a", "heads", Priority.STAT, ("2.25.1",)),
        ("b", "other", Priority.ROUTINE, ("2.25.1",)),
    ]
    assert [one.is_match for one in tries] == [True, True, True, False]
    assert "already given" in tries[1].reason
    assert tries[3].reason == "Modality is not US"


def test_the_same_study_and_generation_always_make_the_same_assignment() -> None:
    study, rules, handlers = Study("2.25.9", 1, (_series("1"),)), (Rule("r", "a"),), {"a": handler("a")}
    first = route(study, rules, handlers)
    later = route(Study("2.25.9", 2, study.series), rules, handlers)
    assert route(study, rules, handlers) == first
    assert first.assignments[0].assignment_id != later.assignments[0].assignment_id


T1 = (Condition("SeriesDescription", matches="T1"), Condition("Modality", any_of=("MR",)))
FLAIR = (Condition("SeriesDescription", matches="FLAIR"),)
TUMOUR = Rule("tumour", "a", requires=(T1, FLAIR), most_wait_s=600)


def test_a_study_that_lacks_a_required_series_waits_and_no_rule_runs_meanwhile() -> None:
    study, handlers = Study("2.25.9", 1, (_series("1"),)), {"a": handler("a"), "b": handler("b")}
    routing = route(
        study, (TUMOUR, Rule("other", "b", requires=(FLAIR,)), Rule("heads", "b")), handlers, most_wait_s=60
    )
    assert routing.assignments == ()
    assert routing.wait_s == 600
    assert "rule 'tumour' waits for a required series: SeriesDescription is a match of FLAIR" in routing.waits_for
    assert "rule 'other' waits" in routing.waits_for
    assert [one.is_match for one in routing.tries] == [False, False, True]


def test_a_study_with_every_required_series_is_read_at_once_with_the_series_the_rule_takes() -> None:
    study = Study("2.25.9", 1, (_series("1"), _series("2", SeriesDescription="AX FLAIR")))
    routing = route(study, (TUMOUR,), {"a": handler("a")})
    assert (routing.wait_s, len(routing.assignments)) == (0, 1)
    assert routing.assignments[0].series_uids == ("2.25.1", "2.25.2")


def test_conditions_of_one_required_series_must_be_met_by_one_series() -> None:
    study = Study("2.25.9", 1, (_series("1", SeriesDescription="FLAIR"), _series("2", Modality="CT")))
    routing = route(study, (Rule("r", "a", requires=(T1,), most_wait_s=1),), {"a": handler("a")})
    assert routing.waits_for == (
        "rule 'r' waits for a required series: SeriesDescription is a match of T1 and Modality is MR"
    )


def test_when_the_wait_is_over_the_rule_says_so_and_the_others_run() -> None:
    study, handlers = Study("2.25.9", 1, (_series("1"),)), {"a": handler("a"), "b": handler("b")}
    routing = route(study, (TUMOUR, Rule("heads", "b")), handlers, why_no_wait="600 s after its last image")
    assert [one.handler for one in routing.assignments] == ["b"]
    said = "required series not there 600 s after its last image: SeriesDescription is a match of FLAIR"
    assert (routing.tries[0].is_match, routing.tries[0].reason) == (False, said)


def test_a_rule_that_does_not_take_the_study_waits_for_nothing() -> None:
    study = Study("2.25.9", 1, (_series("1", Modality="CT"),))
    routing = route(study, (TUMOUR,), {"a": handler("a")}, most_wait_s=60)
    assert (routing.wait_s, routing.tries[0].reason) == (0, "modality CT is not MR")
