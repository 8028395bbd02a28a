"""From stored Instances to a Study, and from a Study to Assignments or the reasons why none."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from node.api import Handler
from node.dicom.charset import normalise
from node.dicom.read import header_of, read_dataset
from node.dicom.uid import derive_uid
from node.domain.study import HeaderValue, Instance, Series, Study
from node.domain.work import Assignment
from node.errors import UnreadableInstanceError
from node.route.rules import why_not, why_not_terms
from node.settings import Rule
from node.store.studies import Try

__all__ = ["gather", "route"]


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
            return header_of(normalise(read_dataset(instance.path)))
        except UnreadableInstanceError:
            continue  # the handler's own reading says which image and why
    return {}


def route(study: Study, rules: Sequence[Rule], handlers: Mapping[str, Handler]) -> tuple[list[Assignment], list[Try]]:
    """Ask every rule, first to last; all that match run, but a handler is given a study only once.

    Returns
    -------
    The Assignments, and what each rule said in words, for the story of the study.
    """
    assignments: dict[str, Assignment] = {}
    tries = []
    for rule in rules:
        takes, reasons = _matching_series(study, rule, handlers)
        if not takes:
            tries.append(Try(rule.name, is_match=False, reason="; ".join(dict.fromkeys(reasons)) or "no images"))
        elif rule.handler in assignments:
            given_by = assignments[rule.handler].rule
            tries.append(
                Try(rule.name, is_match=True, reason=f"{rule.handler} was already given it by rule {given_by}")
            )
        else:
            assignments[rule.handler] = Assignment(
                assignment_id=derive_uid("assignment", study.study_instance_uid, str(study.generation), rule.handler),
                study_instance_uid=study.study_instance_uid,
                generation=study.generation,
                handler=rule.handler,
                rule=rule.name,
                priority=rule.priority,
                destinations=rule.destinations,
                series_uids=tuple(series.series_instance_uid for series in takes),
            )
            tries.append(Try(rule.name, is_match=True, reason=f"given to {rule.handler}, {len(takes)} series"))
    return list(assignments.values()), tries


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
