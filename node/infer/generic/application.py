"""An application without code: the Handler of a model whose card names a task."""

from collections.abc import Callable, Mapping
from functools import partial

from node.api import Handler, Model, Reading, Terms
from node.domain.algorithm import Basis
from node.domain.models import ModelCard, Preparation
from node.domain.study import Study
from node.errors import HandlerError, NotEvaluableError
from node.infer.generic.classify import classify
from node.infer.generic.detect import detect
from node.infer.generic.pictures import Picture, pictures
from node.infer.generic.segment import segment

__all__ = ["handler_of"]

TASKS: Mapping[str, Callable[[Model, list[Picture], Preparation], Reading]] = {
    "classification": classify,
    "segmentation": segment,
    "detection": detect,
}
LONGEST_PARAMETER = 64  # PS3.5 6.2, VR LO


def handler_of(card: ModelCard) -> Handler:
    """Make the Handler of a model that needs no code of its own; a rule names it by the model's name.

    Raises
    ------
    HandlerError
        If the card names no task.
    """
    preparation = card.preparation
    if card.task not in TASKS or preparation is None:
        raise HandlerError(f"model {card.name}: its card names no task and preparation, so it needs a handler")
    return Handler(
        name=card.name,
        version=card.version,
        manufacturer=card.manufacturer,
        basis=Basis.LEARNED,
        template=card.template or card.name,
        terms=Terms(modalities=card.modalities, min_instances=2 if len(preparation.size) == 3 else 1),
        analyse=partial(_analyse, name=card.name, preparation=preparation),
        models=(card.name,),
        parameters=_parameters(card, preparation),
        not_looked_at=card.not_looked_at,
    )


def _analyse(study: Study, models: Mapping[str, Model], *, name: str, preparation: Preparation) -> Reading:
    """Read every image the model was made for; what is refused is left out unless nothing else is there."""
    model = models[name]
    seen: list[Picture] = []
    refusal = NotEvaluableError("there are no images", key="blank")
    for series in study.series:
        try:
            seen += pictures(series, model.card, preparation)
        except NotEvaluableError as refused:
            refusal = refused
    if not seen:
        raise refusal
    return TASKS[model.card.task](model, seen, preparation)


def _parameters(card: ModelCard, preparation: Preparation) -> tuple[tuple[str, str], ...]:
    """The operating point in words, as it is printed with every result."""
    size = " x ".join(str(side) for side in preparation.size)
    spacing = preparation.spacing_mm
    grid = size if spacing is None else f"{size} at {' x '.join(f'{mm:g}' for mm in spacing)} mm"
    return (
        ("threshold", f"{card.threshold:g}"),
        ("grid", grid[:LONGEST_PARAMETER]),
        ("calibration", card.calibration.method if card.calibration else "none: scores are no probabilities"),
    )
