"""Every parser of what others send, with inputs that hypothesis makes up: some each, the slow form thousands; ``make fuzz`` feeds bytes."""

from __future__ import annotations

import os
from typing import Any

import pytest
from figures import Figures
from fuzzing import TARGETS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

QUICK, EXAMPLES = 10, int(os.environ.get("EXAMPLES", "2000"))

#: What parsers look for, so that they are not all left at the first character.
WORDS = st.sampled_from(
    [
        *(
            "$or",
            "$and",
            "$eq",
            "$contains",
            "$gt",
            "owner",
            "metadata",
            "input",
            "assistant_id",
            "graphs",
            "path",
            "url",
        ),
        *(
            "config",
            "configurable",
            "__pregel_send",
            "thread_id",
            "method",
            "params",
            "id",
            "jsonrpc",
            "2.0",
            "message",
        ),
        *("parts", "kind", "role", "text", "file", "bytes", "uri", "data", "headers", "ttl", "index", "dims", "embed"),
        *("*/5", "0 0 * * *", "@daily", "L", "5#2", "Europe/Berlin", "UTC+1", "2026-01-01T00:00:00Z", "1-0", "$", "-1"),
        *(
            "values.a[0]",
            "a.b",
            "..",
            "[-1]",
            "http://",
            "[::1]",
            "127.1",
            "0x7f.1",
            "user:pass@",
            "\x00",
            "\ud800",
            "٣",
            "①",
        ),
        *(
            "password=",
            "bearer ",
            "://a:b@",
            "${{ env.A }}",
            "./graphs.py:g",
            "../x.py:g",
            "*",
            "a*b*c",
            "include",
            "exclude",
        ),
    ]
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.one_of(WORDS, st.text(max_size=5)), max_size=8).map("".join))
NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False))
#: What a JSON text can hold, and no more.
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS.filter(lambda text: "\ud800" not in text))
DOCUMENTS = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(WORDS, st.text(max_size=8)).filter(lambda text: "\ud800" not in text), inner, max_size=5
        ),
    ),
    max_leaves=12,
)


def feed(name: str, examples: int) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(TEXTS if target.of_text else DOCUMENTS)
    def fed(value: Any) -> None:
        target(value)

    fed()


@pytest.mark.parametrize("name", TARGETS)
def test_it_returns_or_refuses(name: str) -> None:
    feed(name, QUICK)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TARGETS)
def test_it_returns_or_refuses_thousands(name: str, figures: Figures) -> None:
    feed(name, EXAMPLES)
    figures(f"S11 {name}", examples=EXAMPLES, found=0)


def test_every_target_takes_what_is_in_order() -> None:
    """Or it would refuse everything, and nothing behind its first look were tried."""
    for name, value in {
        "JSON body": '{"a": 1}',
        "auth filter": {"owner": "a", "$or": [{"tags": {"$contains": "x"}}]},
        "schedule": "0 5 * * 1",
        "time zone": "Europe/Berlin",
        "end time": "2026-01-01T00:00:00Z",
        "namespace": ["a", "b"],
        "store filter": {"a": {"$gt": 1}},
        "id": "019ac1f2-6f5e-7d05-8f3c-4b8f2f6d9a10",
        "Last-Event-ID of a thread": "1-0",
        "Idempotency-Key": "abc",
        "extract path": "values.a[0]",
        "protocol subscription": {"channels": ["values"]},
        "A2A push config": {"url": "https://example.com/"},
        "langgraph.json": {"dependencies": ["."], "graphs": {"g": "./graphs.py:g"}},
    }.items():
        TARGETS[name].parse(value)
