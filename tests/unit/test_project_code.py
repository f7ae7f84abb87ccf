"""Objects of the project in processes without its graphs: imported as a worker would, whatever our own code leaves out."""

import os
import sys
from pathlib import Path

import pytest

from langgraph_serverless import lean_imports
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project_code import load_object, open_project

SOURCE = """
import os
import {unused}
from pydantic import BaseModel
from near import WORD

class Body(BaseModel):
    count: int

auth = {{"token": os.environ["PROJECT_CODE_TOKEN"], "word": WORD, "complete": Body.__pydantic_complete__}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose auth module needs its env, a file beside it, and a module that functions leave out."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(lean_imports, "UNUSED", ("this.is.not.there", "colorsys"))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in ("near", "colorsys", "langgraph_project_security"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "near.py").write_text("WORD = 'beside'")
    (tmp_path / "security.py").write_text(SOURCE.format(unused="colorsys"))
    path = tmp_path / "langgraph.json"
    path.write_text('{"graphs": {"agent": "./near.py:WORD"}, "env": {"PROJECT_CODE_TOKEN": "of the project"}}')
    return path


def test_objects_are_imported_as_a_worker_does(config: Path) -> None:
    project = open_project(config)
    loaded = load_object(project, "./security.py:auth", key="auth.path")
    assert loaded == {"token": "of the project", "word": "beside", "complete": True}
    assert load_object(project, "./security.py:auth", key="auth.path") is loaded


def test_what_our_own_code_does_without_is_there_for_the_users(config: Path) -> None:
    from pydantic import BaseModel

    with lean_imports.lean_imports():
        loaded = load_object(open_project(config), "./security.py:auth", key="auth.path")
        assert loaded["complete"]  # no model is left to be built at its first use

        class Ours(BaseModel):
            count: int

        assert not Ours.__pydantic_complete__
    assert sys.modules["colorsys"] is not None
    assert "this.is.not.there" not in sys.modules


def test_variables_that_are_set_already_win(config: Path) -> None:
    os.environ["PROJECT_CODE_TOKEN"] = "of the deployment"
    assert load_object(open_project(config), "./security.py:auth", key="auth.path")["token"] == "of the deployment"


def test_what_is_wrong_is_one_sentence(config: Path) -> None:
    with pytest.raises(ProjectError, match="LANGGRAPH_CONFIG is not set"):
        open_project(None)
    with pytest.raises(
        ProjectError, match=r"langgraph.json: auth.path: '\./security.py:aut' has no 'aut'; did you mean 'auth'"
    ):
        load_object(open_project(config), "./security.py:aut", key="auth.path")
