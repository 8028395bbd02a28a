import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.dicom.uid import derive_uid, is_valid_uid


@given(st.lists(st.text()))
def test_a_derived_uid_is_valid_and_always_the_same(parts: list[str]) -> None:
    assert is_valid_uid(derive_uid(*parts))
    assert derive_uid(*parts) == derive_uid(*parts)


@pytest.mark.parametrize(
    ("one", "other"), [(("a", "b"), ("ab",)), (("a", "bc"), ("ab", "c")), (('a","b',), ("a", "b")), ((), ("",))]
)
def test_different_parts_give_different_uids(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert derive_uid(*one) != derive_uid(*other)


def test_a_derived_uid_stays_the_same_across_releases() -> None:
    assert derive_uid("study", "1.2.3") == "2.25.157846139448932200792883023008131379128"


@pytest.mark.parametrize("uid", ["1.2", "1.2.840.10008.1.2", "2.25.0", "1." + "2" * 62])
def test_uids_of_the_standard_are_valid(uid: str) -> None:
    assert is_valid_uid(uid)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        ".",
        "..",
        "1..2",
        "1.2.",
        ".1.2",
        "../1.2",
        "/1.2",
        "1.2\n",
        " 1.2",
        "1.2 ",
        "1.٢",
        "1.a",
        "-1.2",
    ],
)
def test_what_is_no_uid_is_refused(text: str) -> None:
    assert not is_valid_uid(text)


def test_a_leading_zero_is_taken_because_some_modalities_write_it() -> None:
    assert is_valid_uid("1.2.840.0012.3")


def test_a_uid_of_65_characters_is_refused() -> None:
    assert not is_valid_uid("1." + "2" * 63)


@given(st.text(alphabet="0123456789./\\ \0%", max_size=70))
def test_a_valid_uid_holds_digits_and_dots_only(text: str) -> None:
    if is_valid_uid(text):
        assert re.fullmatch(r"[0-9.]{3,64}", text)
        assert ".." not in text
