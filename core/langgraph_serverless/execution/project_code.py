"""The project's own objects for processes that run no graph: its ``auth``, its application, its encryption.

Promises that an object is imported as a worker imports graphs: after the project's ``env`` has been applied (a variable that is set
already wins), with the project's folders at the front of ``sys.path``, at most once; and as the user's code is everywhere, also while a
function leaves out what our own code does not need (``lean_imports``). Whatever is wrong is a one-sentence ``ProjectError``.

Relies on the bundle: with any of these sections, that of API functions has the project's dependencies too (``build/bundle.py``). Never
imports langgraph by itself; the user's module may.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.modules import load_object as load_prepared
from langgraph_serverless.execution.modules import prepare_imports
from langgraph_serverless.execution.project import ProjectConfig, read_project
from langgraph_serverless.lean_imports import usual_imports


def open_project(config_path: Path | None) -> ProjectConfig:
    """The project of ``LANGGRAPH_CONFIG``; from now on its ``env`` applies to this process, and its modules can be imported.

    Raises:
        ProjectError: with the sentence to show.
    """
    if config_path is None:
        raise ProjectError("LANGGRAPH_CONFIG is not set: it names the project's langgraph.json")
    project = read_project(config_path)
    project.apply_env(os.environ)
    prepare_imports(project)
    return project


def load_object(project: ProjectConfig, target: str, *, key: str) -> Any:
    """What ``target`` (``./auth.py:auth``) names in an opened project; ``key`` says where it is written (``auth.path``).

    Raises:
        ProjectError: with the sentence to show.
    """
    with usual_imports():
        return load_prepared(project, target, key=f"{project.config_path}: {key}")
