"""How often a serving process looks for cycles of garbage."""

import gc
from collections.abc import Iterator

import pytest

from langgraph_serverless import garbage


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_looks_less_often() -> None:
    gc.set_threshold(700, 10, 10)

    garbage.relax()

    assert gc.get_threshold() == (garbage.YOUNG, 10, 10)


@pytest.mark.parametrize("young", [0, 100_000])
def test_whoever_looks_less_often_or_never_has_the_last_word(young: int) -> None:
    gc.set_threshold(young, 10, 10)

    garbage.relax()

    assert gc.get_threshold() == (young, 10, 10)


def test_what_exists_is_never_looked_at_again() -> None:
    garbage.settle()

    assert gc.get_freeze_count() > len(gc.get_objects())
