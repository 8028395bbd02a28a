"""A site accepts by the bound of the interval, for the very thing that was agreed, or not at all."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli.commands import app
from node.errors import EvaluationError
from node.evaluate.accept_page import write_acceptance
from node.evaluate.acceptance import Criterion, judge, load_criteria
from node.evaluate.evaluation import Data, Evaluation, Maker
from node.evaluate.interval import Resampling
from node.evaluate.judging import judge_kind
from tests.unit.evaluate.results import case
from tests.unit.evaluate.sites import box_of, write_film, write_site

CRITERIA = """
application = "bright"
agreed_by = "Dr Physics"
agreed_on = 2026-01-15
version = "1.0"

[[criteria]]
metric = "sensitivity"
at_least = 0.8
least_n = 20
"""


def _evaluation(found: int, of: int, *, missing: int = 0) -> Evaluation:
    cases = [case(number, True, called=number <= found) for number in range(1, of + 1)]
    cases += [case(number, False, called=False) for number in range(of + 1, of + 11)]
    resampling = Resampling(200, 1)
    maker = Maker("bright", "1.0", "Physics", "learned", "a" * 64, (("net", "1", "b" * 64),), ())
    data = Data("c" * 64, of + 10, of + 10, 0, missing, of + 10, 0, 0, 1.0, 2.0)
    return Evaluation("2026-03-01T12:00:00+00:00", maker, data, resampling, (judge_kind("", cases, resampling),))


def _judge(tmp_path: Path, text: str, evaluation: Evaluation):  # type: ignore[no-untyped-def]
    (tmp_path / "criteria.toml").write_text(text, encoding="utf-8")
    return judge(*load_criteria(tmp_path / "criteria.toml"), evaluation)


def test_the_lower_bound_counts_and_not_the_value(tmp_path: Path) -> None:
    assert not _judge(tmp_path, CRITERIA, _evaluation(27, 30)).is_passed  # 0.90, from 0.73
    assert _judge(tmp_path, CRITERIA, _evaluation(95, 100)).is_passed  # 0.95, from 0.89


def test_ten_of_ten_are_too_few(tmp_path: Path) -> None:
    (verdict,) = _judge(tmp_path, CRITERIA, _evaluation(10, 10)).verdicts
    assert (verdict.is_met, verdict.why.key) == (False, "too_few")
    (verdict,) = _judge(tmp_path, CRITERIA.replace("least_n = 20", ""), _evaluation(10, 10)).verdicts
    assert not verdict.is_met  # from 0.69: the bootstrap would have said 1.00


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (CRITERIA.replace('"bright"', '"dark"'), "other_application"),
        (CRITERIA.replace('"1.0"', '"2.0"'), "other_version"),
        ('weights_sha256 = "' + "d" * 64 + '"\n' + CRITERIA, "other_weights"),
        (CRITERIA.replace("2026-01-15", "2026-03-02"), "agreed_after"),
    ],
)
def test_what_was_not_agreed_does_not_pass_whatever_the_figures(tmp_path: Path, text: str, key: str) -> None:
    found = _judge(tmp_path, text, _evaluation(100, 100))
    assert [one.key for one in found.objections] == [key]
    assert not found.is_passed


def test_studies_without_images_do_not_pass(tmp_path: Path) -> None:
    assert not _judge(tmp_path, CRITERIA, _evaluation(100, 100, missing=1)).is_passed


def test_a_figure_that_is_not_there_is_not_met(tmp_path: Path) -> None:
    for metric in ("auc", "wrong_anatomy_refused", "lesion_removal_vanished", "no_such"):
        found = _judge(tmp_path, CRITERIA.replace('"sensitivity"', f'"{metric}"'), _evaluation(100, 100))
        assert [one.is_met for one in found.verdicts] == [False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CRITERIA + "at_most = 1\n", "at_least or at_most, and not both"),
        (CRITERIA + 'bound = "middle"\n', "bound must be one of"),
        (CRITERIA + "at_lest = 1\n", "line 11.*no key 'at_lest'"),
        (CRITERIA.replace("2026-01-15", '"soon"'), "agreed_on must be a date"),
        (CRITERIA.partition("[[")[0] + "criteria = []", "at least one"),
    ],
)
def test_criteria_that_cannot_be_checked_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        _judge(tmp_path, text, _evaluation(10, 10))


def test_an_upper_bound_is_held_against_at_most() -> None:
    assert (Criterion("bias", at_most=1.0).held_against, Criterion("auc", at_least=0.8).held_against) == (
        "upper",
        "lower",
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_names_version_hashes_count_date_and_has_room_to_sign(tmp_path: Path, language: str) -> None:
    evaluation = _evaluation(27, 30)
    evaluation = replace(evaluation, data=replace(evaluation.data, missing=2))
    page = write_acceptance(_judge(tmp_path, CRITERIA, evaluation), evaluation, language)
    for text in ("bright 1.0", "a" * 64, "b" * 64, "c" * 64, "2026-03-01", "2026-01-15", "Dr Physics", "0.900", "30 "):
        assert text in page
    if language == "zh":
        words = re.sub(r"<style>.*?</style>|<[^>]*>", "", page, flags=re.DOTALL)
        assert "labelled" not in words


def test_the_command_accepts_or_ends_with_1(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        squares = [(20, 20, 0.9)] if number % 2 else []
        uid = write_film(tmp_path / "data", f"film{number}", squares, seed=number)
        rows.append(f"{uid},{number % 2},bright,{box_of(20, 20) if squares else ''}")
    (tmp_path / "labels.csv").write_text("study_uid,label,kind,box\n" + "\n".join(rows) + "\n", encoding="utf-8")
    site = write_site(tmp_path / "site")
    store = f'[store]\npath = "{tmp_path / "store"}"\n'
    (site / "config.toml").write_text(store, encoding="utf-8")
    runner = CliRunner()
    places = {"data": tmp_path / "data", "labels": tmp_path / "labels.csv", "out": tmp_path / "out", "site": site}
    options = ["--resamples", "100", *(word for name, path in places.items() for word in (f"--{name}", str(path)))]
    done = runner.invoke(app, ["evaluate", "bright", *options, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["kinds"][0]["table"] == {"negative": {"silent": 2}, "positive": {"called": 2}}
    criteria = CRITERIA.replace('metric = "sensitivity"', 'metric = "sensitivity"\nkind = "bright"')
    (tmp_path / "hard.toml").write_text(criteria, encoding="utf-8")
    (tmp_path / "soft.toml").write_text(criteria.replace("0.8", "0.1").replace("least_n = 20", ""), encoding="utf-8")
    assert runner.invoke(app, ["accept", str(tmp_path / "hard.toml"), *options]).exit_code == 1
    done = runner.invoke(app, ["accept", str(tmp_path / "soft.toml"), *options, "--json"])
    assert (done.exit_code, json.loads(done.stdout)["is_passed"]) == (0, True)
    assert (tmp_path / "out" / "acceptance.html").is_file()
