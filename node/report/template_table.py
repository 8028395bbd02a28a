"""One table of a report template, read key by key; what is missing, wrong or left over is an error."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from node.domain.codes import Code
from node.errors import TemplateError
from node.report.concepts import LONGEST_MEANING, known_meanings
from node.report.words import WORDS, Parts, placeholders

__all__ = ["Sentence", "Table", "Text", "listed"]

T = TypeVar("T")
Text = Mapping[str, str]
"""The same text by language."""
Sentence = Mapping[str, Parts]
"""The same sentence by language, in parts."""


def listed(keys: Iterable[str]) -> str:
    """Keys in one line, for a message."""
    return ", ".join(sorted(keys)) or "none"


class Table:
    """One table of a template file; knows where it is, and which of its keys nobody asked for.

    Every method takes one key out of the table and raises `TemplateError`, naming file and key, if
    its value is not what was asked for; `end` raises if any key is left.
    """

    def __init__(self, file: str, where: str, content: object) -> None:
        """Read `content`, which stands at `where` in `file`."""
        self.file = file
        self.where = where
        if not isinstance(content, dict):
            raise TemplateError(f"{file}: {where} must be a table, found {content!r}")
        self.content = dict(content)

    def error(self, key: str, message: str) -> TemplateError:
        """An error that names the file and the key."""
        return TemplateError(f"{self.file}: {self._path(key)} {message}")

    def take(self, key: str) -> object:
        """Any value."""
        if key not in self.content:
            raise self.error(key, "is missing")
        return self.content.pop(key)

    def end(self) -> None:
        """Nothing more is expected."""
        if self.content:
            raise self.error(sorted(self.content)[0], "is not a known key")

    def table(self, key: str) -> "Table":
        """A table within."""
        return Table(self.file, self._path(key), self.take(key))

    def items(self, key: str) -> "list[Table]":
        """A list of tables, empty if it is not there."""
        items = self.content.pop(key, [])
        if not isinstance(items, list):
            raise self.error(key, "must be a list of tables")
        return [Table(self.file, f"{self._path(key)}[{index}]", item) for index, item in enumerate(items)]

    def each(self, key: str, read: "Callable[[Table], T]") -> Mapping[str, T]:
        """A table of tables, each read by `read`, empty if it is not there."""
        tables = Table(self.file, self._path(key), self.content.pop(key, {}))
        return {name: read(tables.table(name)) for name in list(tables.content)}

    def number(self, key: str, low: int, high: int) -> int:
        """A whole number."""
        found = self.take(key)
        if type(found) is not int or not low <= found <= high:
            raise self.error(key, f"must be a whole number from {low} to {high}, found {found!r}")
        return found

    def name(self, key: str) -> str:
        """A key of another table, "" if it is not there."""
        found = self.content.pop(key, "")
        if not isinstance(found, str):
            raise self.error(key, f"must be a text, found {found!r}")
        return found

    def limit(self, key: str, default: float) -> float:
        """A number, `default` if it is not there."""
        found = self.content.pop(key, default)
        if type(found) not in (int, float):
            raise self.error(key, f"must be a number, found {found!r}")
        return float(found)

    def text(self, key: str) -> Text:
        """A text in every language, without placeholders."""
        parts = self.sentence(key, frozenset())
        return {language: "".join(part) for language, part in parts.items()}

    def translation(self) -> Text:
        """The table itself as one text in every language."""
        return {language: "".join(self._parts(self, "", language, frozenset())) for language in WORDS}

    def texts(self, key: str) -> Mapping[str, Text]:
        """A table of texts, empty if it is not there."""
        table = Table(self.file, self._path(key), self.content.pop(key, {}))
        return {name: table.text(name) for name in list(table.content)}

    def sentence(self, key: str, allowed: frozenset[str]) -> Sentence:
        """A sentence in every language, with no other placeholders than the allowed ones."""
        table = self.table(key)
        found = {language: self._parts(table, key, language, allowed) for language in WORDS}
        table.end()
        return found

    def _parts(self, table: "Table", key: str, language: str, allowed: frozenset[str]) -> Parts:
        found = table.take(language)
        parts = tuple(found) if isinstance(found, list) else (found,)
        texts = tuple(part for part in parts if isinstance(part, str))
        if len(texts) != len(parts):
            raise self.error(key, f"{language} must be a text or a list of texts")
        try:
            unknown = placeholders(texts) - allowed
        except ValueError as error:
            raise self.error(key, str(error)) from error
        if unknown:
            raise self.error(key, f"{language} has the unknown placeholder {{{min(unknown)}}}")
        if not any(part.strip() and not placeholders([part]) for part in texts):
            raise self.error(key, f"{language} needs words that do not depend on a placeholder")
        return texts

    def optional_code(self, key: str) -> Code | None:
        """A concept, None if it is not there."""
        return self.code(key) if key in self.content else None

    def code(self, key: str) -> Code:
        """A concept that a dictionary holds, or that says where it stands."""
        table = self.table(key)
        value, scheme, meaning, source = (table.content.pop(k, "") for k in ("value", "scheme", "meaning", "source"))
        table.end()
        if not all(isinstance(text, str) for text in (value, scheme, meaning, source)):
            raise self.error(key, "must hold texts: value, scheme, meaning")
        if not value or not scheme or not 0 < len(meaning) <= LONGEST_MEANING:
            raise self.error(key, f"needs value, scheme and a meaning of at most {LONGEST_MEANING} characters")
        known = known_meanings(value, scheme)
        if known and meaning.lower() not in known:
            raise self.error(key, f"({value},{scheme}) means {listed(known)}, not {meaning!r}")
        if not known and not source.strip():
            raise self.error(key, f"({value},{scheme}) is in no dictionary; say where it stands in a `source` line")
        return Code(value, scheme, meaning)

    def _path(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key
