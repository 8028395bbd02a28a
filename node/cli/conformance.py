"""The command ``wetread conformance``: the DICOM conformance and HL7 statements of the node as it is configured."""

from typing import Annotated

import typer

from node.cli.context import Json, Site, open_place, print_json

__all__ = ["conformance"]


def conformance(
    site: Site = None,
    json: Json = False,
    hl7: Annotated[bool, typer.Option("--hl7", help="The HL7 statement instead, as markdown.")] = False,
) -> None:
    """Print the DICOM conformance statement of this site, as markdown or as JSON, or its HL7 statement."""
    from node.conformance import describe, hl7_statement, to_markdown

    settings = open_place(site).settings
    if hl7:
        typer.echo(hl7_statement(settings), nl=False)
        return
    statement = describe(settings)
    if json:
        print_json(statement)
    else:
        typer.echo(to_markdown(statement), nl=False)  # as it is: no line is wrapped, nothing is markup
