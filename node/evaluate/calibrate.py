"""Puts a fitted calibration into a model's manifest, and says what it is worth."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from node.domain.models import Calibration
from node.errors import EvaluationError, ModelError
from node.evaluate.calibration import Fit, fit
from node.evaluate.judging import score_pairs
from node.evaluate.records import CaseResult
from node.infer.models import load_manifest
from node.paths import write_atomically

__all__ = ["block", "calibrate", "write_block"]

MANIFEST = "model.toml"
OWN_TABLE = re.compile(r"^\[calibration\][^\n]*\n(?:\w+ *=[^\n]*\n?|\n)*", re.MULTILINE)


def calibrate(results: Sequence[CaseResult], method: str, *, labels_sha256: str, today: date) -> Fit:
    """Fit the scores of an evaluation to what was true; `source` tells on what and when.

    Raises
    ------
    EvaluationError
        If the application gave no scores, or there are too few cases.
    """
    scores, truths, patients, what = score_pairs(results, of="score")
    if not len(scores):
        raise EvaluationError("a calibration needs scores, the application gave none")
    source = (
        f"{len(scores)} {what} of {len(np.unique(patients))} patients, {int(truths.sum())} of them real, {today}, "
        f"labels {labels_sha256[:12]}"
    )
    return fit(method, scores, truths, patients, source=source)


def block(calibration: Calibration) -> str:
    """The table ``[calibration]`` of a manifest."""
    lines = ["[calibration]", f'method = "{calibration.method}"', f'source = "{calibration.source}"']
    if calibration.points:
        points = ", ".join(f"[{place:.6g}, {probability:.6g}]" for place, probability in calibration.points)
        lines.append(f"points = [{points}]")
    else:
        lines.append(f"temperature = {calibration.temperature:.6g}")
    lines += [f"high_at = {calibration.high_at:g}", f"medium_at = {calibration.medium_at:g}"]
    return "\n".join(lines) + "\n"


def write_block(folder: Path, calibration: Calibration) -> None:
    """Put a calibration into ``model.toml``, in place of an earlier one, whose tiers stay as every other line.

    Raises
    ------
    EvaluationError
        If the manifest does not load with it; then it is left as it was.
    """
    path = folder / MANIFEST
    earlier = load_manifest(folder).card.calibration
    if earlier is not None:
        calibration = replace(calibration, high_at=earlier.high_at, medium_at=earlier.medium_at)
    before = path.read_text(encoding="utf-8")
    rest = OWN_TABLE.sub("", before).rstrip("\n")
    write_atomically(path, f"{rest}\n\n{block(calibration)}".encode())
    try:
        load_manifest(folder)
    except ModelError as error:
        write_atomically(path, before.encode())
        raise EvaluationError(f"the manifest does not load with the calibration: {error}") from error
