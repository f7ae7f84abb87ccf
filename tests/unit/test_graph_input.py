"""What a graph is started with: input or command, and the config out of the stored one."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from langchain_core.tracers import LangChainTracer
from langgraph.types import Command, Send
from langsmith.utils import get_env_var

from langgraph_serverless.domain.runs import ClaimedRun, Lease, MultitaskStrategy, Run, RunStatus
from langgraph_serverless.execution.graph_input import graph_config, graph_input

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Run(
    run_id=uuid.uuid4(),
    thread_id=uuid.uuid4(),
    assistant_id=uuid.uuid4(),
    status=RunStatus.RUNNING,
    resuming=False,
    metadata={},
    kwargs={},
    multitask_strategy=MultitaskStrategy.ENQUEUE,
    created_at=NOW,
    updated_at=NOW,
)


def config(stored: dict[str, Any]) -> Any:
    claimed = ClaimedRun(
        run=replace(RUN, kwargs={"config": stored}),
        lease=Lease(run_id=RUN.run_id, token=uuid.uuid4(), epoch=1),
        graph_id="g",
        attempt=1,
        handoffs=0,
        continued=False,
        age=0,
        temporary=False,
        cancel=None,
        thread_metadata={},
    )
    return graph_config(claimed, resuming=False)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ({"resume": False}, Command(resume=False)),
        ({"resume": {"a": 1}}, Command(resume={"a": 1})),
        ({"goto": "a"}, Command(goto="a")),
        ({"goto": ["a", {"node": "b", "input": 1}]}, Command(goto=["a", Send("b", 1)])),
        ({"update": [["log", 1]], "goto": []}, Command(update=[("log", 1)])),
        ({"update": {}, "goto": "a", "resume": None}, Command(goto="a")),
    ],
)
def test_a_command_wins_over_the_input(command: dict[str, Any], expected: Command[Any]) -> None:
    assert graph_input({"input": {"x": 1}, "command": command}) == expected


@pytest.mark.parametrize(
    "command", [None, {}, {"goto": []}, {"goto": ""}, {"update": {}}, {"update": []}, {"resume": None}, {"other": 1}]
)
def test_a_command_that_commands_nothing_is_none(command: Any) -> None:
    assert graph_input({"input": {"x": 1}, "command": command}) == {"x": 1}
    assert graph_input({"command": command}) is None


def test_a_graph_gets_what_langchain_knows_of_a_config() -> None:
    made = config(
        {
            "tags": ["t"],
            "recursion_limit": 3,
            "max_concurrency": 2,
            "run_name": "n",
            "callbacks": ["x"],
            "run_id": "mine",
        }
    )
    assert (made["tags"], made["recursion_limit"], made["max_concurrency"], made["run_name"]) == (["t"], 3, 2, "n")
    assert "callbacks" not in made
    assert made["run_id"] == RUN.run_id


def test_a_tracer_is_used_if_the_deployment_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    example = str(uuid.uuid4())
    stored = {"configurable": {"__langsmith_project__": "p", "__langsmith_example_id__": example}}
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    get_env_var.cache_clear()
    assert "callbacks" not in config(stored)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "not-a-key")
    get_env_var.cache_clear()
    (tracer,) = config(stored)["callbacks"]
    assert isinstance(tracer, LangChainTracer)
    assert (tracer.project_name, str(tracer.example_id)) == ("p", example)
    assert "callbacks" not in config({"configurable": {}})
    get_env_var.cache_clear()
