"""A handler's file run anew for each study: what it kept of one patient is gone when the next one comes."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from node.api import Handler
from node.infer.handlers import load_handler

__all__ = ["fresh_handler"]


def fresh_handler(folder: Path, name: str) -> Callable[[], Handler]:
    """Load a handler, and give what makes it as new: its file is read and checked once, and run each time.

    Modules that it imports stay as they are, and so does a handler that is no file of the site.

    Raises
    ------
    HandlerError
        As `load_handler`.
    """
    handler = load_handler(folder, name)
    path = folder / f"{name}.py"
    if not path.is_file():
        return lambda: handler
    code = compile(path.read_bytes(), str(path), "exec")
    module_name = f"_wetread_handler_{name}"

    def again() -> Handler:
        module = ModuleType(module_name)
        module.__file__ = str(path)
        sys.modules[module_name] = module  # dataclasses of the file look their module up by name
        exec(code, module.__dict__)  # noqa: S102  the site's own handler, which was loaded and checked above
        found: Handler = module.handler
        return found

    return again
