import pytest
from hypothesis import given
from hypothesis import strategies as st

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
