"""What a priority handler may answer, what becomes of its failures, and what is said of a section that cannot be served."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.domain.priorities import FirstRun, GroupLimits, ThreadPriority
from langgraph_serverless.errors import ProjectError, SettingsError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.priorities import PriorityHandler
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.services.priorities import HandlerInFunction, answer_event
from langgraph_serverless.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:The Priority API is in beta")

RUN = FirstRun(
    identity="ada",
    permissions=["read"],
    user={"org": "acme"},
    thread_id=None,
    thread_metadata={},
    assistant_id="a",
    graph_id="g",
    assistant_metadata={},
    run_metadata={},
    cron_id=None,
)


@pytest.mark.parametrize(
    ("answer", "priority", "key"),
    [
        (None, 0, None),
        ({}, 0, None),
        ({"priority": None, "fairness_group": None}, 0, None),
        ({"fairness_group": ""}, 0, None),
        ({"fairness_group": "default"}, 0, None),
        ({"priority": -5, "fairness_group": "acme"}, -5, "acme"),
        ({"priority": 5, "fairness_group": "ü" * 256}, 5, "ü" * 256),
    ],
)
def test_answers(answer: Any, priority: int, key: str | None) -> None:
    meant = ThreadPriority.of(answer)
    assert (meant.priority, meant.concurrency_key) == (priority, key)
    assert ThreadPriority.stored(priority, key) == meant == ThreadPriority.of(meant.to_json())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([], "a dict or None, not of type list"),
        (3, "a dict or None"),
        ({"priority": 6}, "from -5 to 5"),
        ({"priority": -6}, "from -5 to 5"),
        ({"priority": 1.0}, "whole number"),
        ({"priority": True}, "whole number"),
        ({"priority": "1"}, "whole number"),
        ({"fairness_group": 7}, "a string of at most 256"),
        ({"fairness_group": "x" * 257}, "a string of at most 256"),
        ({"fairness_group": "a\0b"}, "without NUL"),
        ({"fairness_group": "\ud800"}, "a string"),
        ({"group": "acme"}, "keys that mean nothing: 'group'"),
    ],
)
async def test_answers_that_mean_nothing_are_logged(answer: Any, says: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=says):
        ThreadPriority.of(answer)

    async def handler(_: Any) -> Any:
        return answer

    with caplog.at_level(logging.ERROR):
        assert await PriorityHandler(handler)([RUN]) == [None]
    assert says in caplog.text


async def test_a_handler_that_fails_or_hangs_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(ctx: Any) -> Any:
        if ctx.graph_id == "fails":
            raise KeyError("org_id")
        if ctx.graph_id == "hangs":
            await asyncio.sleep(3600)
        return {"fairness_group": ctx.user["org"], "priority": len(ctx.permissions)}

    runs = [FirstRun(**{**RUN.to_json(), "graph_id": name}) for name in ("g", "fails", "hangs", "g")]
    answers = await PriorityHandler(handler, timeout=0.1)(runs)
    acme = ThreadPriority(priority=1, fairness_group="acme")
    assert answers == [acme, None, None, acme]
    assert "KeyError: 'org_id'" in caplog.text
    assert "has not answered in time, within 0.1 seconds" in caplog.text
    # a long list of those that hang takes no longer than two of them
    hanging = [runs[2]] * 200
    async with asyncio.timeout(10):
        assert await PriorityHandler(handler, timeout=0.05)(hanging) == [None] * 200


async def test_a_user_without_authentication_is_nobody() -> None:
    seen: list[Any] = []

    async def handler(ctx: Any) -> Any:
        seen.append((ctx.user.identity, ctx.user.is_authenticated, ctx.permissions, "org" in ctx.user, list(ctx.user)))

    await PriorityHandler(handler)([FirstRun(**{**RUN.to_json(), "identity": "", "permissions": [], "user": None})])
    assert seen == [("", False, [], False, ["identity", "display_name", "is_authenticated", "permissions"])]


async def test_the_state_function_is_asked_with_one_event() -> None:
    events: list[Any] = []

    class Function:
        async def call(self, event: Any) -> Any:
            events.append(event)
            sent = json.loads(json.dumps(event))
            return json.loads(json.dumps(await answer_event(PriorityHandler(handler), *sent.values())))

    async def handler(ctx: Any) -> Any:
        return {"priority": 2} if ctx.thread_id else 0

    runs = [RUN, FirstRun(**{**RUN.to_json(), "thread_id": "t"})]
    assert await HandlerInFunction(Function())(runs) == [None, ThreadPriority(priority=2)]
    assert len(events) == 1
    assert await answer_event(None, [RUN.to_json()]) == {"priorities": [None]}


@pytest.fixture
def project(tmp_path: Path) -> Any:
    def make(section: Any, code: str = "") -> Path:
        (tmp_path / "graph.py").write_text(
            "from langgraph.graph import START, StateGraph\nbuilder = StateGraph(dict)\n"
            "builder.add_node('a', lambda s: s)\nbuilder.add_edge(START, 'a')\ngraph = builder.compile()\n"
        )
        (tmp_path / "p.py").write_text(code)
        config = {"graphs": {"g": "./graph.py:graph"}, "priority": section}
        (tmp_path / "langgraph.json").write_text(json.dumps(config))
        return tmp_path / "langgraph.json"

    return make


@pytest.mark.parametrize(
    ("section", "code", "says"),
    [
        ([], None, None),
        ("./p.py:p", "", "'priority' must be an object"),
        ({"paht": "./p.py:p"}, "", "priority.path must be './file.py:name'"),
        ({"path": "./nowhere.py:p"}, "", "does not exist"),
        ({"path": "p.py"}, "", "needs the form"),
        ({"path": "./p.py:p"}, "q = 1", "has no 'p'"),
        ({"path": "./p.py:p"}, "p = 1", "is of type int; it must be a langgraph_sdk.Priority"),
        ({"path": "./p.py:p"}, "from langgraph_sdk import Priority\np = Priority()", "has no handler"),
        (
            {"path": "./p.py:p"},
            "from langgraph_sdk import Priority\np = Priority()\n@p.assign\ndef f(ctx): pass",
            "must be an async function",
        ),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(project: Any, section: Any, code: str | None, says: str) -> None:
    config = project(section, code or "")
    if says is None:
        with pytest.raises(ProjectError, match="'priority' must be an object"):
            read_project(config)
        return
    with pytest.raises(ProjectError, match=says.replace("'", "['\"]")):
        GraphRegistry.load(read_project(config))


async def test_the_manifest_says_whether_there_is_a_handler(project: Any) -> None:
    code = "from langgraph_sdk import Priority\np = Priority()\n@p.assign\nasync def f(ctx): pass"
    for section, expected in (({"path": "./p.py:p", "weights": {}}, True), ({}, False)):
        read = read_project(project(section, code))
        manifest = await build_manifest(GraphRegistry.load(read))
        assert manifest.priority is expected
        assert type(manifest).from_json(manifest.to_json()) == manifest
        assert read.unknown_keys == (("priority.weights",) if section else ())


def test_limits_are_read() -> None:
    environ = {"DATABASE_URI": "postgresql://x/y", "CONCURRENCY_LIMITS_BY_GROUP": '{"acme": 5, "free": 0}'}
    settings = Settings.from_env(environ)
    assert (settings.group_concurrency, settings.group_concurrency_limits) == (0, {"acme": 5, "free": 0})
    for wrong in ('{"acme": -1}', '{"acme": 99999999999}', '{"acme": true}', '{"acme": "5"}', "5", "acme=5"):
        with pytest.raises(SettingsError, match="CONCURRENCY_LIMITS_BY_GROUP is not valid: must be a JSON object"):
            Settings.from_env({**environ, "CONCURRENCY_LIMITS_BY_GROUP": wrong})
    assert not GroupLimits(of={"free": 0})
    assert GroupLimits(most=1)
