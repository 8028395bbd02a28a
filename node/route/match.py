"""From stored Instances to a Study, and from a Study to Assignments or the reasons why none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from node.api import Handler
from node.dicom.charset import normalise
from node.dicom.read import header_of, read_dataset
from node.dicom.uid import derive_uid
from node.domain.study import HeaderValue, Instance, Series, Study
from node.domain.work import Assignment
from node.errors import UnreadableInstanceError
from node.route.rules import expected, why_not, why_not_terms
from node.settings import Rule
from node.store.studies import Try

__all__ = ["Routing", "gather", "route"]


@dataclass(frozen=True, slots=True)
class Routing:
    """Who reads a study, and what each rule said of it in words.

    `wait_s` is how long after its last image the study waits for Series that rules require; while it does, there
    are no Assignments.
    """

    assignments: tuple[Assignment, ...]
    tries: tuple[Try, ...]
    wait_s: float = 0.0
    waits_for: str = ""


def gather(study_instance_uid: str, generation: int, instances: Sequence[Instance]) -> Study:
    """Group Instances into Series, each with the header its first readable image shows to rules and gates."""
    ordered = sorted(instances, key=lambda instance: (instance.series_instance_uid, instance.sop_instance_uid))
    series = []
    for series_uid, group in groupby(ordered, key=lambda instance: instance.series_instance_uid):
        members = tuple(group)
        header = _first_header(members)
        series.append(Series(series_uid, str(header.get("Modality") or ""), members, header))
    return Study(study_instance_uid, generation, tuple(series))


def _first_header(instances: Sequence[Instance]) -> Mapping[str, HeaderValue]:
    for instance in instances:
        try:
            ds = read_dataset(instance.path)
            ds.pop("PerFrameFunctionalGroupsSequence", None)  # thousands of items that no rule sees
            return header_of(normalise(ds))
        except UnreadableInstanceError:
            continue  # the handler's own reading says which image and why
    return {}


def route(
    study: Study,
    rules: Sequence[Rule],
    handlers: Mapping[str, Handler],
    *,
    most_wait_s: float = 0.0,
    why_no_wait: str = "",
) -> Routing:
    """Ask every rule, first to last; all that match run, but a handler is given a study only once.

    A study that a rule takes but which lacks a Series the rule requires waits, and with it all rules: one study
    gets one set of results. When the wait is over, the rule does not take it and says why.

    Parameters
    ----------
    most_wait_s
        How long a rule waits that does not say so itself.
    why_no_wait
        Why there is no waiting (any more), such as "after 1800 s"; "" if there may be.
    """
    assignments: dict[str, Assignment] = {}
    tries: list[Try] = []
    waits: dict[str, float] = {}
    for rule in rules:
        takes, reasons = _matching_series(study, rule, handlers)
        lacks = _lacking(study, rule) if takes else ""
        wait_s = most_wait_s if rule.most_wait_s is None else rule.most_wait_s
        if not takes:
            tries.append(Try(rule.name, is_match=False, reason="; ".join(dict.fromkeys(reasons)) or "no images"))
        elif lacks and wait_s > 0 and not why_no_wait:
            waits[f"rule {rule.name!r} waits for a required series: {lacks}"] = wait_s
            tries.append(Try(rule.name, is_match=False, reason=f"required series not there yet: {lacks}"))
        elif lacks:
            when = f" {why_no_wait}" if why_no_wait else ""
            tries.append(Try(rule.name, is_match=False, reason=f"required series not there{when}: {lacks}"))
        elif rule.handler in assignments:
            given_by = assignments[rule.handler].rule
            tries.append(
                Try(rule.name, is_match=True, reason=f"{rule.handler} was already given it by rule {given_by}")
            )
        else:
            assignments[rule.handler] = _assignment(study, rule, takes)
            tries.append(Try(rule.name, is_match=True, reason=f"given to {rule.handler}, {len(takes)} series"))
    if waits:
        return Routing((), tuple(tries), max(waits.values()), "; ".join(waits))
    return Routing(tuple(assignments.values()), tuple(tries))


def _assignment(study: Study, rule: Rule, takes: Sequence[Series]) -> Assignment:
    return Assignment(
        assignment_id=derive_uid("assignment", study.study_instance_uid, str(study.generation), rule.handler),
        study_instance_uid=study.study_instance_uid,
        generation=study.generation,
        handler=rule.handler,
        rule=rule.name,
        priority=rule.priority,
        destinations=rule.destinations,
        series_uids=tuple(series.series_instance_uid for series in takes),
    )


def _lacking(study: Study, rule: Rule) -> str:
    """What of the required Series no Series of the study is, in words; "" if all are there."""
    lacking = [
        conditions
        for conditions in rule.requires
        if not any(all(not why_not(one, series.header) for one in conditions) for series in study.series)
    ]
    return "; ".join(" and ".join(expected(one) for one in conditions) for conditions in lacking)


def _matching_series(study: Study, rule: Rule, handlers: Mapping[str, Handler]) -> tuple[list[Series], list[str]]:
    takes, reasons = [], []
    for series in study.series:
        reason = next((text for condition in rule.when if (text := why_not(condition, series.header))), "")
        reason = reason or why_not_terms(handlers[rule.handler].terms, series)
        if reason:
            reasons.append(reason)
        else:
            takes.append(series)
    return takes, reasons
