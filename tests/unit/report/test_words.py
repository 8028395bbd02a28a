import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.algorithm import Basis
from node.evaluate.write import SCHEMA as EVALUATION_SCHEMA
from node.report.result_json import SCHEMA as RESULT_SCHEMA
from node.report.words import WORDS, fill, placeholders


def test_a_part_whose_placeholder_has_no_value_is_left_out() -> None:
    parts = ("Opacity", " in the {side}", ", {size}", ".")
    assert fill(parts, {"side": "left lung"}) == "Opacity in the left lung."
    assert fill(parts, {"side": "", "size": "4 mm"}) == "Opacity, 4 mm."


@given(st.text())
def test_a_value_is_put_in_as_it_is_and_never_read_again(value: str) -> None:
    assert fill(("<", "{reason}", ">"), {"reason": value, "other": "no"}) == f"<{value}>"


@given(st.text())
def test_any_text_is_either_understood_or_refused(text: str) -> None:
    try:
        names = placeholders([text])
    except ValueError:
        assert "{" in text or "}" in text
    else:
        assert fill((text,), dict.fromkeys(names, "x")).count("{") == 0


@pytest.mark.parametrize(
    "text", ["{finding.__class__}", "{0}", "{}", "{Volume}", "{volume!r}", "{volume:>9}", "{", "}}"]
)
def test_only_plain_names_are_placeholders(text: str) -> None:
    with pytest.raises(ValueError, match="curly bracket"):
        placeholders([text])


def test_both_languages_say_every_basis_and_tier() -> None:
    english, chinese = WORDS["en"], WORDS["zh"]
    assert english.basis.keys() == chinese.basis.keys()
    assert english.tier.keys() == chinese.tier.keys()
    assert english.basis != chinese.basis


@pytest.mark.parametrize("basis", list(Basis))
def test_every_basis_has_words_in_every_language_and_is_in_both_schemas(basis: Basis) -> None:
    assert all(words.basis[basis] for words in WORDS.values())
    for schema in (RESULT_SCHEMA, EVALUATION_SCHEMA):
        assert f'"{basis}"' in schema.read_text(encoding="utf-8")
