"""Importing the user's modules.

Promises: ``load_object`` returns the object that a target names, importing its module at most once, or raises a
one-sentence ``ProjectError`` that says where in the user's own files it went wrong.

Names. A file inside a package (a chain of ``__init__.py``) is imported under its dotted name, so that relative imports
work. A loose file gets a name made from its path below the project root. That name is stable between machines on
purpose: checkpoints hold the module name of every dataclass and model in the state, and must load after a move.

A project may own top-level packages called like our repository's folders. Its folders go to the front of ``sys.path``
and a module of ours that is already loaded under such a name steps aside.

Relies on: one project per process. Never reads configuration, knows nothing of graphs.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig
from langgraph_serverless.execution.targets import Target, parse_target
from langgraph_serverless.loopback import provide_modules

#: Top-level folders of this repository. Lambda handlers and tests import some of them before the project is loaded.
OWN_TOP_LEVEL = ("core", "functions", "infra", "tests", "examples")
LOOSE_FILE_PREFIX = "langgraph_project"


def prepare_imports(project: ProjectConfig) -> None:
    """Put the project's folders at the front of ``sys.path``, and what its clients of this server look for beside them."""
    provide_modules()
    folders = import_folders(project)
    sys.path[:] = [*map(str, folders), *(entry for entry in sys.path if entry not in map(str, folders))]
    importlib.invalidate_caches()
    _make_room(folders)
    _claim_namespaces(folders)


def import_folders(project: ProjectConfig) -> list[Path]:
    """Folders that the project imports from, most important first."""
    folders: list[Path] = []
    for folder in (project.root, *project.local_dependencies):
        # An installable folder with a src/ layout would be importable from src/ once installed.
        if (folder / "pyproject.toml").is_file() and (folder / "src").is_dir():
            folders.append(folder / "src")
        folders.append(folder)
    # "../shared" may be a package itself; then its parent is where it is imported from.
    folders += [folder.parent for folder in project.local_dependencies if (folder / "__init__.py").is_file()]
    return list(dict.fromkeys(folders))


def load_object(project: ProjectConfig, spec: str, *, key: str) -> Any:
    """The object that `spec` names, for example ``./auth.py:auth``; `key` says in errors where it was written."""
    target = parse_target(project.root, spec, key=key)
    module = _import(target, project)
    if hasattr(module, target.attribute):
        return getattr(module, target.attribute)
    public = [name for name in vars(module) if not name.startswith("_")]
    near = difflib.get_close_matches(target.attribute, public, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else "."
    raise ProjectError(f"{key}: '{target.spec}' has no '{target.attribute}'{hint}")


def _import(target: Target, project: ProjectConfig) -> ModuleType:
    try:
        if target.file is None:
            return importlib.import_module(target.module or "")
        return _import_file(target.file, target.key, project.root)
    except ProjectError:
        raise
    # SystemExit: a script without a __main__ guard must not end the server without a word.
    except (Exception, SystemExit) as error:
        raise ProjectError(f"{target.key}: importing '{target.spec}' failed{_where(error, project)}.") from error


def _import_file(file: Path, key: str, root: Path) -> ModuleType:
    package_root, dotted = _package_of(file)
    if dotted is not None:
        if str(package_root) not in sys.path:
            sys.path.insert(0, str(package_root))
        _make_room([package_root])
        module = importlib.import_module(dotted)
        if Path(module.__file__ or "").resolve() != file:
            raise ProjectError(f"{key}: the package of {file} is hidden by {module.__file__}; rename one of the two.")
        return module

    name = _loose_name(file, root)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file):
        return known
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ProjectError(f"{key}: {file} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses, get_type_hints and pickle look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _package_of(file: Path) -> tuple[Path, str | None]:
    """The folder to import from and the dotted name, which is None if `file` lies in no package."""
    folder, parts = file.parent, [file.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    if len(parts) == 1:
        return folder, None
    if parts[-1] == "__init__":
        parts.pop()
    return folder, ".".join(parts)


def _loose_name(file: Path, root: Path) -> str:
    path = file.relative_to(root.resolve()).with_suffix("").as_posix()
    # "_" is doubled first, so that a/b.py and a_b.py, or a-b.py and a_b.py, never share a name.
    name = re.sub(r"\W", lambda match: f"_{ord(match[0]):x}_", path.replace("_", "__"))
    return f"{LOOSE_FILE_PREFIX}_{name}"


def _make_room(folders: Iterable[Path]) -> None:
    """Forget loaded modules of ours whose names the project needs. Whoever imported them keeps them."""
    folders = list(folders)
    for name in OWN_TOP_LEVEL:
        module = sys.modules.get(name)
        owned = any((folder / name).is_dir() or (folder / f"{name}.py").is_file() for folder in folders)
        if module is None or not owned or _lies_in(module, folders):
            continue
        for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[loaded]


def _claim_namespaces(folders: list[Path]) -> None:
    """Register the project's folders without ``__init__.py`` that are called like packages of ours.

    Python prefers a regular package anywhere on the path to a bare folder at its front, so ours would win.
    """
    for name in OWN_TOP_LEVEL:
        spec = importlib.machinery.PathFinder.find_spec(name, [str(folder) for folder in folders])
        if spec is not None and spec.origin is None and spec.submodule_search_locations and name not in sys.modules:
            sys.modules[name] = importlib.util.module_from_spec(spec)


def _lies_in(module: ModuleType, folders: Iterable[Path]) -> bool:
    places = [module.__file__] if module.__file__ else list(getattr(module, "__path__", []))
    return any(Path(place).resolve().is_relative_to(folder) for place in places for folder in folders)


def _where(error: BaseException, project: ProjectConfig) -> str:
    """`` at agent.py, line 3 (import nothing): ModuleNotFoundError: ...`` for the user's own innermost line."""
    said = f"{type(error).__name__}: {str(error) or 'no message'}".rstrip(".")
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {_short(error.filename, project)}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    folders = import_folders(project)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if any(Path(frame.filename).is_relative_to(folder) for folder in folders) and not _installed(frame.filename):
            code = f" ({frame.line})" if frame.line else ""
            return f" at {_short(frame.filename, project)}, line {frame.lineno}{code}: {said}"
    return f": {said}"


def _installed(filename: str) -> bool:
    """Whether the file belongs to an environment that happens to lie inside the project, as ``.venv`` does."""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(filename).parts)


def _short(filename: str, project: ProjectConfig) -> str:
    path = Path(filename)
    return str(path.relative_to(project.root)) if path.is_relative_to(project.root) else filename
