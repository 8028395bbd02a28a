"""What the templates of the site say of an analysis."""

from node.domain.findings import Analysis
from node.domain.statement import Statement
from node.domain.study import Study
from node.report import state
from tests.unit.report.studies import MADE_AT, TEMPLATES

__all__ = ["say"]


def say(analysis: Analysis, study: Study, *, language: str = "en", is_correction: bool = False) -> Statement:
    return state(
        analysis,
        TEMPLATES[analysis.template],
        study_instance_uid=study.study_instance_uid,
        language=language,
        made_at=MADE_AT,
        is_correction=is_correction,
    )
