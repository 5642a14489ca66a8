"""Entrypoints: from `file.py:name` or `package.module:name` to the function."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.errors import SpecError

_NOT_THE_USERS = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), sysconfig.get_path("platlib"), "<")
"""Where code lies that no user wrote for a job: ours, Python's, and what is installed."""


def load(reference: str, folder: Path) -> Callable[..., Any]:
    """The function that an entrypoint names. `file.py` is relative to `folder` (the job file's).

    A file is run once for each version of it, as a module of its own: two jobs' `model.py` never clash. Its folder
    is appended to the import path, so it can import its neighbours, and nothing installed is shadowed by them.

    Raises:
        SpecError: the file, module or name isn't there, isn't callable, or fails when imported (the cause is kept).

    """
    target, _, name = reference.rpartition(":")
    if target.endswith(".py"):
        module = _file_module(reference, (folder / target).resolve())
    else:
        allow_imports(folder)
        module = _import(reference, target)
    if not hasattr(module, name):
        near = get_close_matches(name, vars(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SpecError(f"entrypoint {reference!r}: {module.__file__ or target} has no {name!r}{hint}")
    function = getattr(module, name)
    if not callable(function):
        raise SpecError(f"entrypoint {reference!r}: {name!r} is a {type(function).__name__}, not a function")
    return function  # type: ignore[no-any-return]  # callable() was asked


def allow_imports(folder: Path) -> None:
    """Let modules in `folder` be imported, after everything that is already on the path."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def blame(error: BaseException) -> str:
    """Where in the user's own code an error was raised, as ` (churn.py, line 12)`; empty when it wasn't there."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THE_USERS)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _import(reference: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{target}.".startswith(f"{error.name}."):
            raise SpecError(f"entrypoint {reference!r}: there is no module {error.name!r}; is it installed?") from error
        raise SpecError(f"entrypoint {reference!r}: importing it failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise SpecError(
            f"entrypoint {reference!r}: importing it failed: {type(error).__name__}: {error}{blame(error)}"
        ) from error


def _file_module(reference: str, path: Path) -> ModuleType:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"entrypoint {reference!r}: {path} can't be read: {error.strerror}") from error
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape") + b"\0" + content).hexdigest()
    name = f"_batchgauge_{path.stem}_{digest[:16]}"
    return sys.modules.get(name) or _run_file(reference, path, name)


def _run_file(reference: str, path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    allow_imports(path.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise SpecError(f"entrypoint {reference!r}: {path} failed: {type(error).__name__}: {error}{blame(error)}") from error
    return module
