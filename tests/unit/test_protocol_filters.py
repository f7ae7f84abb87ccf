"""What clients of protocol v2 ask for, as the official server reads it (recorded: every body here was sent to it)."""

from __future__ import annotations

from typing import Any

import pytest

from langgraph_serverless.domain.protocol_filters import Subscription, parse_subscription
from langgraph_serverless.errors import BadRequestError

ALLOWED = "Allowed: values, updates, messages, tools, custom, lifecycle, input, tasks, or any `custom:<name>`."
CHILD = ("child:25580dc6-e8b9-ade5-7877-066739353c94",)
INNER = (*CHILD, "inner:0b226d00-e4ec-5b58-8e33-88f4bd4debe7")


@pytest.mark.parametrize("body", [{}, {"channels": []}, {"channels": None}, {"channels": "values"}, [], "x", 3, None])
def test_channels_must_be_a_list(body: Any) -> None:
    with pytest.raises(BadRequestError, match="channels is required and must be a non-empty array"):
        parse_subscription(body)


@pytest.mark.parametrize(
    ("channels", "named"),
    [
        (["bad"], "bad"),
        (["values", "debug", 3], "debug, 3"),
        (["custom:"], "custom:"),
        ([["a"]], "['a']"),
        (["checkpoints", "zz"], "zz"),
    ],
)
def test_channels_that_are_none_are_named(channels: list[Any], named: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_subscription({"channels": channels})
    assert str(refused.value) == f"channels contains unsupported entries: {named}. {ALLOWED}"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"since": 7}, {"since": 7}),
        *(({"since": wrong}, {}) for wrong in ("7", -1, 1.5, True, None)),
        *(({"depth": wrong}, {}) for wrong in ("x", -1, 1.5, True)),
        ({"depth": 0}, {"depth": 0}),
        ({"namespaces": [[]], "depth": 1}, {"namespaces": ((),), "depth": 1}),
        *(({"namespaces": wrong}, {}) for wrong in ("child", ["child"], [[3]], [[3, "child"]], [], None)),
        ({"namespaces": [["child"], 3]}, {"namespaces": (("child",),)}),
    ],
)
def test_what_is_of_the_wrong_kind_is_passed_over(sent: dict[str, Any], read: dict[str, Any]) -> None:
    assert parse_subscription({"channels": ["values"], **sent}) == Subscription(channels=frozenset({"values"}), **read)


@pytest.mark.parametrize(
    ("wanted", "root", "child", "inner"),
    [
        ({}, True, True, True),
        ({"depth": 0}, True, True, True),
        ({"namespaces": [[]]}, True, True, True),
        ({"namespaces": [[]], "depth": 0}, True, False, False),
        ({"namespaces": [[]], "depth": 1}, True, True, False),
        ({"namespaces": [["child"]]}, False, True, True),
        ({"namespaces": [["child"]], "depth": 0}, False, True, False),
        ({"namespaces": [list(CHILD)]}, False, True, True),
        ({"namespaces": [["child", "inner"]]}, False, False, True),
        ({"namespaces": [["chil"]]}, False, False, False),
        ({"namespaces": [["child:"]]}, False, False, False),
        ({"namespaces": [["child"], ["nope"]]}, False, True, True),
        ({"namespaces": [["child", "x"]]}, False, False, False),
    ],
)
def test_namespaces_are_prefixes(wanted: dict[str, Any], root: bool, child: bool, inner: bool) -> None:
    subscription = parse_subscription({"channels": ["values"], **wanted})
    assert [subscription.wants("values", namespace) for namespace in ((), CHILD, INNER)] == [root, child, inner]


def test_channels_and_names() -> None:
    every, named = parse_subscription({"channels": ["custom", "input"]}), parse_subscription({"channels": ["custom:a"]})
    assert [every.wants(method, ()) for method in ("input.requested", "values", "custom")] == [True, False, True]
    assert [every.wants_named(name) for name in ("b", None)] == [True, True]
    assert named.wants("custom", ())
    assert [named.wants_named(name) for name in ("a", "b", None, "")] == [True, False, False, False]


def test_namespaces_have_a_number() -> None:
    """Every event is compared with all of them."""
    parse_subscription({"channels": ["values"], "namespaces": [["a"]] * 1000})
    with pytest.raises(BadRequestError, match="namespaces has more than 1000 entries"):
        parse_subscription({"channels": ["values"], "namespaces": [["a"]] * 1001})
