"""The story of a study tells what came, what ran, what did not and why, in the order it happened."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import StoreError
from node.explain import LANGUAGES, WORDS, Event, find_studies, story
from node.explain.say import say, say_reason
from node.store.database import Store, open_store
from node.store.dead_letters import dead_letters, drop, retry
from node.store.files import quarantine_file
from node.store.intake import add_quarantine
from node.store.outbox import mark_accepted, mark_dead, mark_postponed, pending_deliveries
from node.store.studies import Try, add_assignments, mark_generation_failed
from node.store.verification import mark_verified
from node.store.work import mark_analysed, mark_assignment_failed
from tests.unit.rows import STUDY, Clock, arrive, assign, freeze_whole, image, message, report


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    found = open_store(tmp_path / "store", clock=clock)
    yield found
    found.close()


def _said(store: Store, stage: str) -> list[str]:
    return [event.text for event in story(store, STUDY) if event.stage == stage]


def test_a_study_is_found_by_uid_accession_number_and_patient_id_newest_first(store: Store, clock: Clock) -> None:
    arrive(store, 1, study="2.25.1")
    clock.now += 10
    arrive(store, 2, study="2.25.2")
    assert find_studies(store, "2.25.1") == ["2.25.1"]
    assert find_studies(store, "A-2.25.2") == ["2.25.2"]
    assert find_studies(store, "P1") == ["2.25.2", "2.25.1"]
    assert find_studies(store, "%") == []
    assert story(store, "2.25.77") == []


def test_the_whole_story_is_told_in_order(store: Store, clock: Clock) -> None:
    item = assign(store)
    clock.now += 10
    report(store, item, [(message(store, "M1"), "ris"), (image(store, "2.25.70"), "pacs")])
    clock.now += 10
    (to_ris,) = pending_deliveries(store, item.assignment_id, "ris")
    mark_postponed(store, to_ris, "ris: no answer", delay_s=5)
    clock.now += 10
    mark_accepted(store, to_ris, "AA")
    events = story(store, STUDY)
    assert events == sorted(events, key=lambda event: event.at)
    assert {event.stage for event in events} == {"receive", "complete", "route", "infer", "report", "deliver"}
    assert _said(store, "receive") == ["1 images of series 2.25.5 came from CT1 in 0.0 s"]
    assert _said(store, "route") == ["rule 'a rule' took it: given to chest_xray"]
    assert _said(store, "infer") == ["chest_xray answered 'findings' after 10.0 s"]
    assert _said(store, "report") == ["chest_xray was reported: A nodule is seen."]
    assert sorted(_said(store, "deliver")) == [
        "heat map 2.25.70 waits for pacs, 0 attempts so far",
        "ris took oru M1 at attempt 2 with AA",
    ]
    assert all(event.at.tzinfo is not None for event in events)


def test_a_study_that_nobody_took_says_what_each_rule_said(store: Store) -> None:
    arrive(store, 1)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    add_assignments(store, STUDY, 1, [], [Try("brain", is_match=False, reason="modality CT is not MR")])
    assert _said(store, "route") == [
        "rule 'brain' did not take it: modality CT is not MR",
        "no algorithm ran on generation 1: no rule took the study",
    ]


def test_what_failed_says_why(store: Store) -> None:
    mark_assignment_failed(store, assign(store), "the report could not be built", workflow="w")
    assert "chest_xray has no result: the report could not be built" in _said(store, "report")
    arrive(store, 50)
    freeze_whole(store, quiet_s=0, after_release_s=0)
    mark_generation_failed(store, STUDY, 2, "routing failed 3 times")
    assert "no algorithm ran on generation 2: routing failed 3 times" in _said(store, "route")


def test_a_dead_letter_says_why(store: Store) -> None:
    item = assign(store)
    report(store, item, [(message(store, "M1"), "ris")])
    (delivery,) = pending_deliveries(store, item.assignment_id, "ris")
    mark_dead(store, delivery, "answered AE")
    assert _said(store, "deliver") == ["oru M1 for ris is a dead letter: answered AE"]


def test_an_object_of_the_study_in_quarantine_is_told(store: Store, tmp_path: Path) -> None:
    arrive(store, 1)
    other = store.root / "incoming" / "other"
    other.write_bytes(b"other")
    number, name = quarantine_file(store.root, other)
    add_quarantine(
        store, number=number, name=name, sop_uid="2.25.91", calling_ae="CT1", status=0xC001,
        reason="stored with other content", size_bytes=5,
    )  # fmt: skip
    assert any("in quarantine: stored with other content" in text for text in _said(store, "receive"))


def test_no_event_names_the_patient(store: Store) -> None:
    arrive(store, 1, patient="Wet^Canary")
    assert not [event for event in story(store, STUDY) if "Canary" in event.text]
    assert isinstance(story(store, STUDY)[0], Event)


def test_a_damaged_database_is_one_error_of_ours(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    arrive(store, 1)
    with store.reading() as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'instances'"
        page = int(connection.exec_driver_sql(query).scalar_one())
        page_bytes = int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    store.close()
    path = tmp_path / "store" / "wetread.db"
    content = bytearray(path.read_bytes())
    content[(page - 1) * page_bytes : page * page_bytes] = b"\xff" * page_bytes
    path.write_bytes(bytes(content))
    again = open_store(tmp_path / "store")
    with pytest.raises(StoreError, match="damaged"):
        story(again, STUDY)
    again.close()


def _delivered(store: Store, language: str = "en") -> list[str]:
    return [event.text for event in story(store, STUDY, language=language) if event.stage == "deliver"]


def test_a_verification_is_told_with_what_proves_it(store: Store, clock: Clock) -> None:
    item = assign(store)
    report(store, item, [(message(store, "M1"), "ris"), (image(store, "2.25.70"), "pacs")])
    (to_ris,) = pending_deliveries(store, item.assignment_id, "ris")
    (to_pacs,) = pending_deliveries(store, item.assignment_id, "pacs")
    mark_accepted(store, to_ris, "AA", verified_by="answer")
    mark_accepted(store, to_pacs, "0x0000", is_checked=True)
    assert "ris has oru M1 for good: its answer says so" in _delivered(store)
    assert "pacs is asked whether it keeps heat map 2.25.70, so far 0 times" in _delivered(store)
    clock.now += 5
    mark_verified(store, to_pacs.delivery_id, "commitment")
    assert "pacs has heat map 2.25.70 for good: it has committed it" in _delivered(store)
    assert "已核实 pacs 持有热图 2.25.70：已作存储承诺" in _delivered(store, "zh")


def test_a_dropped_letter_and_one_sent_again_are_told(store: Store) -> None:
    item = assign(store)
    report(store, item, [(message(store, "M1"), "ris")])
    (delivery,) = pending_deliveries(store, item.assignment_id, "ris")
    mark_dead(store, delivery, "ris: message M1 was answered AE")
    retry(store, dead_letters(store)[0], by="anna")
    (delivery,) = pending_deliveries(store, item.assignment_id, "ris")
    mark_dead(store, delivery, "ris: message M1 was answered AE")
    drop(store, dead_letters(store)[0], "typed in by hand", by="anna")
    assert _delivered(store) == [
        "a person sent oru M1 for ris again, number 1",
        "a person dropped oru M1 for ris: typed in by hand; it was a dead letter: ris: message M1 was answered AE",
    ]
    assert "此前为死信：ris：消息 M1 的应答为 AE" in _delivered(store, "zh")[1]


def test_the_same_story_is_told_in_chinese_with_the_same_codes(store: Store, clock: Clock) -> None:
    item = assign(store)
    clock.now += 10
    report(store, item, [(image(store, "2.25.70"), "pacs")])
    english, chinese = story(store, STUDY), story(store, STUDY, language="zh")
    assert [(one.at, one.stage, one.code) for one in english] == [(one.at, one.stage, one.code) for one in chinese]
    texts = [one.text for one in chinese]
    assert "规则“a rule”接受：given to chest_xray" in texts  # a reason nobody wrote like that stays as it is
    assert any("共 1 幅图像" in text for text in texts)


def test_a_reason_of_a_gate_is_said_in_the_words_of_the_sites_template(store: Store) -> None:
    item = assign(store)
    reason = "the skull has already been removed from the images"
    mark_analysed(store, item, status="not_evaluable", reason=reason, folder="analyses/x", workflow="w")
    told = story(store, STUDY, language="zh", reasons={reason: "图像已去除颅骨"})
    assert any(one.text.endswith("结论“无法评估”：图像已去除颅骨") for one in told)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_sentence_with_the_same_values(language: str) -> None:
    for code, parts in WORDS["en"].sentences.items():
        mine = WORDS[language].sentences[code]
        assert sorted(re.findall(r"\{\w+\}", "".join(mine))) == sorted(re.findall(r"\{\w+\}", "".join(parts))), code
    assert WORDS[language].sentences.keys() == WORDS["en"].sentences.keys()


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("no rule took the study", "没有规则接受该检查"),
        ("modality CT is not MR; 1 images are fewer than 3", "模态 CT 不是 MR；图像 1 幅，少于 3 幅"),
        ("12 s, learned from 57 studies of CT1 / CT", "12 秒，由 CT1 / CT 的 57 个检查学得"),
        (
            "12 s, as configured; the sender did not say how many images it holds",
            "12 秒，按配置；发送方未说明其图像数量",
        ),
        (
            "given up after 72.0 h: pacs: PACS cannot be reached: Connection refused",
            "72.0 小时后放弃：无法连接 pacs: PACS：Connection refused",
        ),
        ("never verified in 24.1 h: C-FIND does not find it", "24.1 小时内未能核实：C-FIND 查询不到"),
        ("held as 'QA by name': PatientName has the word 'phantom'", "按“QA by name”扣留：PatientName 含有“phantom”"),
        ("something nobody foresaw {seconds}", "something nobody foresaw {seconds}"),
    ],
)
def test_reasons_are_said_in_chinese_where_they_are_known(english: str, chinese: str) -> None:
    assert say_reason(WORDS["zh"], english, {}) == chinese
    assert say_reason(WORDS["en"], english, {}) == english


@given(st.text())
def test_what_a_peer_sent_is_one_line_and_never_a_placeholder(text: str) -> None:
    said = say(WORDS["en"], "images_came", count=1, series="2.25.5", ae=text + "{seconds}\n\x1b[31m", seconds="0.0")
    assert said.isprintable()
    assert said.endswith(" in 0.0 s")
    assert "{seconds}" in said
