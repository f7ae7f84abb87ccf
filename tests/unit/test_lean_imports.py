"""What is left out of a cold start is there again afterwards, and whatever was there before stays."""

import importlib
import sys

import pytest
from pydantic import BaseModel, ValidationError

from langgraph_serverless import lean_imports


@pytest.fixture
def left_out(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that nobody has imported."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    monkeypatch.setattr(lean_imports, "UNUSED", ("colorsys", "json"))
    return "colorsys"


def test_a_module_is_missing_within_and_there_afterwards(left_out: str) -> None:
    with lean_imports.lean_imports():
        with pytest.raises(ImportError):
            importlib.import_module(left_out)
        assert importlib.import_module("json") is sys.modules["json"], "it was there before"
    assert left_out not in sys.modules
    assert importlib.import_module(left_out)


def test_models_are_built_when_they_are_used_and_those_of_others_as_always(left_out: str) -> None:
    usual = dict(BaseModel.model_config)
    with lean_imports.lean_imports():

        class Later(BaseModel):
            number: int

    class Now(BaseModel):
        number: int

    assert (Later.__pydantic_complete__, Now.__pydantic_complete__) == (False, True)
    assert Later(number=1).number == 1
    with pytest.raises(ValidationError):
        Later(number="one")  # type: ignore[arg-type]
    assert usual == BaseModel.model_config


def test_an_error_within_leaves_nothing_behind(left_out: str) -> None:
    usual = dict(BaseModel.model_config)

    def fails() -> None:
        with lean_imports.lean_imports():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert usual == BaseModel.model_config
    assert importlib.import_module(left_out)
