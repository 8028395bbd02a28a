"""Handlers: the site's files in ``handlers/``, the packages that publish one, and models that need none.

A file is read for its imports before it runs: a handler that reaches into the engine would break
with the next version, so it may import `node.api` and nothing else of ours.
"""

import ast
import importlib.util
import math
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import structlog

from node.api import Handler
from node.domain.algorithm import Basis
from node.errors import HandlerError, ModelError
from node.infer.generic import handler_of
from node.infer.models import load_manifest, model_folders

__all__ = ["load_handler", "load_handlers"]

log = structlog.get_logger(__name__)

GROUP = "node.handlers"
MODELS = "models"
ENGINE = "node"
ALLOWED = "node.api"
LONGEST_PARAMETER = 64  # PS3.5 6.2, VR LO, and the meaning of a code: what a result can carry


def load_handlers(folder: Path) -> Mapping[str, Handler]:
    """Load every handler of the site, by name: each ``*.py`` in `folder` and the entry points ``node.handlers``.

    Files whose name starts with ``_`` are left out. A model in ``models/`` beside `folder` whose card names a task is a
    handler too; one whose card cannot be read is off, and the log says so.

    Raises
    ------
    HandlerError
        If a file cannot be loaded, imports more of ours than `node.api`, does not define what a
        handler must, or two handlers have one name; the message names the file.
    """
    handlers = {path.stem: _from_file(path) for path in _files(folder)}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        if point.name in handlers:
            raise HandlerError(f"entry point {GROUP}:{point.name}: {folder} has a handler of that name already")
        handlers[point.name] = _from_entry_point(point)
    for name, handler in _from_models(folder.parent / MODELS).items():
        if name in handlers:
            raise HandlerError(f"model {name}: its card names a task, but there is a handler of that name already")
        handlers[name] = handler
    return handlers


def load_handler(folder: Path, name: str) -> Handler:
    """Load one handler by its name, without running the others.

    Raises
    ------
    HandlerError
        If there is none of that name, or for what `load_handlers` refuses.
    """
    for path in _files(folder):
        if path.stem == name:
            return _from_file(path)
    for point in entry_points(group=GROUP, name=name):
        return _from_entry_point(point)
    model = folder.parent / MODELS / name
    if model.is_dir():
        try:
            return _of_card(model)
        except ModelError as error:
            raise HandlerError(str(error)) from error
    raise HandlerError(
        f"there is no handler {name!r}: expected {folder / name}.py, an entry point of {GROUP}, or a model with a task"
    )


def _from_models(folder: Path) -> dict[str, Handler]:
    found: dict[str, Handler] = {}
    for path in model_folders(folder) if folder.is_dir() else []:
        try:
            if load_manifest(path).card.task:
                found[path.name] = _of_card(path)
        except ModelError as error:
            log.warning("model switched off", model=path.name, reason=str(error))
    return found


def _of_card(folder: Path) -> Handler:
    return _check(handler_of(load_manifest(folder).card), folder.name, str(folder))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise HandlerError(f"{folder}: expected a folder of handlers, found none")
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _from_file(path: Path) -> Handler:
    _check_imports(path)
    module_name = f"_wetread_handler_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise HandlerError(f"{path}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses of the file look their module up by name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise HandlerError(f"{path}{_line_in(path, error)}: {type(error).__name__} when loaded: {error}") from error
    return _check(_handler_of(module, str(path)), path.stem, str(path))


def _from_entry_point(point: EntryPoint) -> Handler:
    where = f"entry point {GROUP}:{point.name} ({point.value})"
    try:
        spec = importlib.util.find_spec(point.module)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            _check_imports(Path(spec.origin))
        handler = point.load()
    except HandlerError:
        raise
    except (Exception, SystemExit) as error:
        raise HandlerError(f"{where}: {type(error).__name__} when loaded: {error}") from error
    if not isinstance(handler, Handler):
        raise HandlerError(f"{where}: expected a Handler, found {type(handler).__name__}")
    return _check(handler, point.name, where)


def _check_imports(path: Path) -> None:
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise HandlerError(f"{path}: cannot be read: {error.strerror}") from error
    except SyntaxError as error:
        raise HandlerError(f"{path}, line {error.lineno}: not Python: {error.msg}") from error
    except ValueError as error:
        raise HandlerError(f"{path}: not Python: {error}") from error
    for statement in ast.walk(tree):
        for name in _imported(statement):
            if name != ALLOWED and (name.split(".")[0] in (ENGINE, "")):
                raise HandlerError(
                    f"{path}, line {getattr(statement, 'lineno', 0)}: imports {name or 'a file beside it'}; "
                    f"a handler is one file and may import {ALLOWED} and nothing else of the engine"
                )


def _imported(statement: ast.AST) -> list[str]:
    """Full names of the modules a statement imports; "" for a relative import."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        if statement.level:
            return [""]
        if statement.module == ENGINE:
            return [f"{ENGINE}.{alias.name}" for alias in statement.names]
        return [statement.module or ""]
    return []


def _handler_of(module: ModuleType, where: str) -> Handler:
    handler = getattr(module, "handler", None)
    if not isinstance(handler, Handler):
        found = "none" if handler is None else type(handler).__name__
        raise HandlerError(f"{where}: expected a Handler named 'handler', found {found}")
    return handler


def _check(handler: Handler, name: str, where: str) -> Handler:
    texts = all(isinstance(text, str) and text for text in (handler.version, handler.manufacturer, handler.template))
    parameters = [text for pair in handler.parameters for text in pair]
    expectations = (
        (handler.name == name, f"name must be {name!r}, as the file or entry point, found {handler.name!r}"),
        (texts, "version, manufacturer and template must be texts"),
        (isinstance(handler.basis, Basis), f"basis must be a Basis, found {handler.basis!r}"),
        (callable(handler.analyse), "analyse must be a function"),
        (_are_texts(handler.terms.modalities), "terms.modalities must be a tuple of Modality values"),
        (handler.terms.min_instances >= 1, "terms.min_instances must be 1 or more"),
        (_are_texts(handler.models), "models must be a tuple of names"),
        (_are_texts(handler.not_looked_at), "not_looked_at must be a tuple of keys"),
        (_are_texts(tuple(parameters)), "parameters must be pairs of texts"),
        (
            all(len(str(text)) <= LONGEST_PARAMETER for text in parameters),
            f"a parameter must have at most {LONGEST_PARAMETER} characters",
        ),
        (0 < handler.time_limit_s < math.inf, "time_limit_s must be positive"),
        (handler.memory_limit_mb > 0, "memory_limit_mb must be positive"),
    )
    for is_met, expectation in expectations:
        if not is_met:
            raise HandlerError(f"{where}: {expectation}")
    return handler


def _are_texts(values: object) -> bool:
    return isinstance(values, tuple) and all(isinstance(value, str) and value for value in values)


def _line_in(path: Path, error: BaseException) -> str:
    """The last line of `path` that the error passed, as words for a message."""
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""
