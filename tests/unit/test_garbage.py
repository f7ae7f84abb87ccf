"""How often a serving process looks for cycles of garbage."""

import gc
import threading
import weakref
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
    with garbage.settled():
        assert gc.get_freeze_count() > len(gc.get_objects())


class Large:
    """In a cycle with itself."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_large_is_looked_for_before_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.set_threshold(100_000)
    monkeypatch.setattr(garbage, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(garbage, "GROWTH", 4 * 1024 * 1024)
    gone = threading.Event()
    with garbage.settled():
        large = Large()
        weakref.finalize(large, gone.set)
        del large
        held = []
        while not gone.wait(0.05) and len(held) < 200:
            held.append(bytearray(b"x") * 1024 * 1024)
    assert gone.is_set(), "memory has grown by 200 MB, and nobody has looked"
    assert not any(thread.name == "memory" and thread.is_alive() for thread in _ended())


def _ended() -> list[threading.Thread]:
    threads = [thread for thread in threading.enumerate() if thread.name == "memory"]
    for thread in threads:
        thread.join(10)
    return threads


def test_what_is_not_more_than_before_is_no_reason_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: searched.append(1))

    assert garbage.search_if_grown(100, lambda: 90) == 90
    assert garbage.search_if_grown(90, lambda: 90 + garbage.GROWTH) == 90
    assert not searched
    assert garbage.search_if_grown(90, lambda: 91 + garbage.GROWTH) == 91 + garbage.GROWTH
    assert searched
