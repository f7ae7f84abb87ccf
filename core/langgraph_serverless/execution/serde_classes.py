"""The classes that ``checkpointer.serde`` of langgraph.json lists, looked at before anything is read with them.

``check_classes`` promises that each is there and is a class, or a one-sentence ``ProjectError``: a function on the list would be called
by whatever a checkpoint says, and a name that is misspelt would allow nothing without a word. Relies on graphs having been loaded, since
loose files of the project are known by names that importing them gives.
"""

from __future__ import annotations

import importlib
import inspect

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig


def check_classes(project: ProjectConfig) -> None:
    """Import each class that the section lists.

    Raises:
        ProjectError: with the sentence to show.
    """
    for (module, name), key in sorted(project.serde.classes.items()):
        where = f"{project.config_path}: checkpointer.serde.{key}"
        try:
            found = getattr(importlib.import_module(module), name, None)
        # the user's module
        except (Exception, SystemExit) as error:
            raise ProjectError(f"{where}: importing '{module}' failed: {type(error).__name__}: {error}.") from error
        if found is None:
            raise ProjectError(f"{where}: the module '{module}' has no '{name}'.")
        if not inspect.isclass(found):
            raise ProjectError(f"{where}: '{module}.{name}' is not a class, and whatever is listed is called.")
