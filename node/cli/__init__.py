"""The command ``wetread``: one word for each thing a person asks of the node."""

import sys

from rich.console import Console

from node.cli.commands import app
from node.errors import WetreadError

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error the node raised on purpose is one line and exit code 1."""
    try:
        app()
    except WetreadError as error:
        Console(stderr=True).print(f"wetread: {error}", markup=False, highlight=False, style="red", soft_wrap=True)
        sys.exit(1)
