"""The readable report as plain text, for systems that show nothing else."""

from node.domain.statement import StatedFinding, Statement
from node.report.words import WORDS, Words

__all__ = ["plain_text"]


def plain_text(statement: Statement) -> str:
    """What a reader must see, in the Statement's language: one thing to a line, the outcome first."""
    words, algorithm = WORDS[statement.language], statement.algorithm
    lines = [statement.title, statement.conclusion]
    lines += [words.correction] if statement.is_correction else []
    lines += [_finding(finding, words) for finding in statement.findings]
    lines += [
        f"{advice.text}{words.opening}{words.source}{words.colon}{advice.source}{words.closing}"
        for advice in statement.recommendations
    ]
    lines += statement.limits
    lines.append(
        f"{words.algorithm}{words.colon}{algorithm.name} {words.version} {algorithm.version}{words.clause}"
        f"{algorithm.manufacturer}{words.clause}{words.basis[algorithm.basis]}"
    )
    lines.append(statement.responsibility)
    return "\n".join(lines) + "\n"


def _finding(finding: StatedFinding, words: Words) -> str:
    facts = [
        f"{item.label} {item.value:.4g} {item.unit.value}{words.clause}{words.method}{words.colon}{item.method}"
        for item in finding.measurements
        if item.method
    ]
    if finding.certainty is not None:
        percent = 100.0 * finding.certainty.probability
        facts.append(f"{words.certainty}{words.colon}{percent:.0f} % ({words.tier[finding.certainty.tier]})")
    line = f"[{finding.finding_id}] {finding.sentence}"
    return f"{line}{words.opening}{words.clause.join(facts)}{words.closing}" if facts else line
