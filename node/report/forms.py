"""Which forms of a result are made in which language, and which of them go where."""

from collections.abc import Iterable, Mapping

from node.domain.work import STANDARD_KINDS, Output, OutputKind
from node.settings import Destination, Hl7Destination

__all__ = ["deliveries", "kinds_by_language", "named_reports"]


def kinds_by_language(
    destinations: Iterable[Destination | None], site_language: str
) -> dict[str, frozenset[OutputKind]]:
    """Tell what is made in which language; the first of them makes the forms without words, too.

    The first is the site's own if an archive gets it or none gets anything, else that of the first archive. The
    standard forms are always made in it, whoever gets them. A language that only messages are in makes no object.
    """
    known = [destination for destination in destinations if destination is not None]
    asked: dict[str, set[OutputKind]] = {}
    for destination in known:
        objects = _objects(destination)
        if objects:
            asked.setdefault(destination.language or site_language, set()).update(objects)
    first = next(iter(asked), site_language) if site_language not in asked else site_language
    wordless = {kind for kinds in asked.values() for kind in kinds if not kind.has_words}
    found = {first: frozenset({*STANDARD_KINDS, *wordless, *asked.get(first, ())})}
    for destination in known:
        language = destination.language or site_language
        found.setdefault(language, frozenset(kind for kind in asked.get(language, ()) if kind.has_words))
    return found


def _objects(destination: Destination) -> tuple[OutputKind, ...]:
    """The DICOM objects that a destination asks for; a RIS asks for none."""
    if isinstance(destination, Hl7Destination):
        return ()
    return tuple(kind for kind in destination.objects if kind.is_dicom)


def deliveries(
    outputs: Iterable[Output],
    messages: Mapping[str, Output],
    wanted: Mapping[str, Destination | None],
    site_language: str,
) -> list[tuple[str, str]]:
    """What goes where; to a destination that is no more, everything, which makes dead letters with that reason."""
    made = tuple(outputs)
    pairs = []
    for name, destination in wanted.items():
        if destination is None:
            pairs += [(output.output_id, name) for output in made]
        elif isinstance(destination, Hl7Destination):
            pairs.append((messages[name].output_id, name))
        else:
            languages = ("", destination.language or site_language)
            its = [one for one in made if one.kind in destination.objects and one.language in languages]
            its += [messages[name]] if name in messages else []
            pairs += [(output.output_id, name) for output in its]
    return pairs


def named_reports(outputs: Iterable[Output], language: str) -> list[Output]:
    """The documents that a message names: the numbers, and the readable report, in its own language if there is one."""
    made = tuple(outputs)
    readable = [output for output in made if output.kind is OutputKind.TEXT_SR]
    mine = [output for output in readable if output.language == language] or readable
    return [output for output in made if output.kind is OutputKind.MEASUREMENT_SR] + mine[:1]
