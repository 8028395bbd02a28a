"""The command ``wetread``: one word for each thing a person asks of the node."""

import sys

from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from node.cli.commands import app
from node.errors import WetreadError

__all__ = ["main"]


def main() -> None:
    """Run the command line; an error the node raised on purpose is one line and exit code 1."""
    try:
        app()
    except WetreadError as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        _fail(f"the store's database does not answer: {type(error).__name__}")


def _fail(text: str) -> None:
    Console(stderr=True).print(f"wetread: {text}", markup=False, highlight=False, style="red", soft_wrap=True)
    sys.exit(1)
