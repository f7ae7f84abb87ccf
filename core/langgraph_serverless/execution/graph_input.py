"""From a stored run to the arguments of ``graph.astream``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

from langgraph_serverless import __version__
from langgraph_serverless.domain.runs import ClaimedRun

#: What a client may command. JavaScript's ``Command`` writes its class name beside them.
COMMANDS = ("update", "resume", "goto")

_VERSIONS = {
    "langgraph_version": version("langgraph"),
    "langgraph_api_version": __version__,
    "langgraph_plan": "developer",
    "langgraph_host": "self-hosted",
    "langgraph_api_url": None,
}


def graph_config(claimed: ClaimedRun, *, resuming: bool) -> RunnableConfig:
    """The config that the graph runs with.

    Args:
        resuming: the run has begun under an earlier lease and goes on from the thread's newest checkpoint; the one that the
            client named lies before it.
    """
    run, stored = claimed.run, claimed.run.kwargs["config"]
    configurable = dict(stored.get("configurable") or {})
    if resuming:
        for key in ("checkpoint_id", "checkpoint_ns", "checkpoint_map"):
            configurable.pop(key, None)
    config: dict[str, Any] = {**stored, "configurable": configurable}
    config["run_id"] = run.run_id
    config["metadata"] = {
        **(stored.get("metadata") or {}),
        **{key: value for key, value in _VERSIONS.items() if value is not None},
        "run_attempt": claimed.attempt,
        "run_id": str(run.run_id),
        "thread_id": str(run.thread_id),
    }
    return config  # type: ignore[return-value]


def graph_input(kwargs: Mapping[str, Any]) -> Any:
    """The input, or the command, which wins if both were sent; an empty command is none."""
    command = kwargs.get("command")
    if not command:
        return kwargs.get("input")
    arguments = {key: command[key] for key in COMMANDS if command.get(key) is not None}
    if "goto" in arguments:
        arguments["goto"] = _goto(arguments["goto"])
    if isinstance(arguments.get("update"), list):
        arguments["update"] = [tuple(pair) for pair in arguments["update"]]
    return Command(**arguments)


def _goto(target: Any) -> Any:
    if isinstance(target, list):
        return [_goto(item) for item in target]
    if isinstance(target, Mapping):
        # JavaScript's Send becomes node and args
        return Send(target["node"], target["input"] if "input" in target else target.get("args"))
    return target
