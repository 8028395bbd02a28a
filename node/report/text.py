"""The readable report: Basic Text SR in the site's language, made for every outcome.

It always says one of: findings, no findings, not evaluated, failed. None of them says "normal".
"""

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import BasicTextSRStorage

from node.domain.codes import Code
from node.domain.statement import StatedFinding
from node.domain.work import OutputKind
from node.report import content
from node.report.concepts import Concept, of_dictionary
from node.report.content import Relation
from node.report.document import Predecessor, document, observation_context, procedure_reported
from node.report.header import Context
from node.report.words import WORDS, Words

__all__ = ["text_report"]

MOST_IMAGES = 10  # of one finding, as links; the evidence holds them all


def text_report(context: Context, predecessors: tuple[Predecessor, ...] = ()) -> Dataset:
    """Build object B."""
    statement = context.statement
    words = WORDS[statement.language]
    root = content.container(
        _named(codes.LN.DiagnosticImagingReport, words),
        [
            *observation_context(context, statement.language),
            procedure_reported(context),
            content.code(
                _named(codes.DCM.CADProcessingAndFindingsSummary, words),
                _named(statement.summary, words),
                Relation.CONTAINS,
            ),
            _impressions(context, words),
            *_findings(context, words),
            *_recommendations(context, words),
            _procedure(context, words),
        ],
        relation=None,
        template="2000",
    )
    return document(context, OutputKind.TEXT_SR, root, sop_class_uid=BasicTextSRStorage, predecessors=predecessors)


def _impressions(context: Context, words: Words) -> Dataset:
    """What a reader sees first: the outcome, and that a machine said it."""
    statement = context.statement
    lines = [statement.conclusion, *([words.correction] if statement.is_correction else []), statement.responsibility]
    return content.container(
        _named(codes.DCM.Impressions, words),
        [content.text(_named(codes.DCM.Impression, words), line) for line in lines],
    )


def _findings(context: Context, words: Words) -> list[Dataset]:
    items = [_finding(context, finding, words) for finding in context.statement.findings]
    return [content.container(_named(codes.DCM.Findings, words), items)] if items else []


def _finding(context: Context, finding: StatedFinding, words: Words) -> Dataset:
    facts = [
        f"{item.label} {item.value:.4g} {item.unit.value}{words.clause}{words.method}{words.colon}{item.method}"
        for item in finding.measurements
        if item.method
    ]
    if finding.certainty is not None:
        tier, percent = words.tier[finding.certainty.tier], 100.0 * finding.certainty.probability
        facts.append(f"{words.certainty}{words.colon}{percent:.0f} % ({tier})")
    line = f"[{finding.finding_id}] {finding.sentence}"
    if facts:
        line += f"{words.opening}{words.clause.join(facts)}{words.closing}"
    links = [
        content.image(
            codes.DCM.BestIllustrationOfFinding,
            context.source.instance(region.sop_instance_uid),
            Relation.INFERRED_FROM,
            frame_number=context.source.frame_number(region),
        )
        for region in finding.regions[:MOST_IMAGES]
    ]
    return content.text(_named(codes.DCM.Finding, words), line, items=links)


def _recommendations(context: Context, words: Words) -> list[Dataset]:
    """Each with the guideline it comes from: advice without a source is nobody's."""
    lines = [
        f"{advice.text}{words.opening}{words.source}{words.colon}{advice.source}{words.clause}"
        f"{', '.join(advice.finding_ids)}{words.closing}"
        for advice in context.statement.recommendations
    ]
    items = [content.text(_named(codes.DCM.Recommendation, words), line) for line in lines]
    return [content.container(_named(codes.DCM.Recommendations, words), items)] if items else []


def _procedure(context: Context, words: Words) -> Dataset:
    """How the outcome came to be: title, algorithm, operating point, device, time, and what was not looked at."""
    statement, algorithm = context.statement, context.statement.algorithm
    facts = [f"{words.algorithm}{words.colon}{algorithm.name} {words.version} {algorithm.version}"]
    facts.append(f"{algorithm.manufacturer}{words.clause}{words.basis[algorithm.basis]}")
    if algorithm.weights_sha256:
        facts.append(f"{words.weights}{words.colon}{algorithm.weights_sha256}")
    if algorithm.parameters:
        point = ", ".join(f"{name} {value}" for name, value in algorithm.parameters)
        facts.append(f"{words.parameters}{words.colon}{point}")
    facts.append(f"{words.device}{words.colon}{algorithm.device}")
    facts.append(f"{words.images_read}{words.colon}{len(context.analysis.source_uids)}")
    facts.append(f"{words.reported_at}{words.colon}{context.made_at.isoformat(sep=' ', timespec='seconds')}")
    lines = [statement.title, words.clause.join(facts), *statement.limits]
    items = [content.text(_named(codes.DCM.ProcedureDescription, words), line) for line in lines]
    return content.container(_named(codes.DCM.CurrentProcedureDescriptions, words), items)


def _named(concept: Concept, words: Words) -> Code:
    """A concept with its meaning in the language of the report; its code is the same in every language."""
    code = concept if isinstance(concept, Code) else of_dictionary(concept)
    return Code(code.value, code.scheme, words.concepts.get(code.value, code.meaning))
