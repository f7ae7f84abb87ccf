"""From a stored run to the arguments of ``graph.astream``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tracers import LangChainTracer
from langgraph.types import Command, Send
from langsmith.utils import tracing_is_enabled

from langgraph_serverless import __version__
from langgraph_serverless.domain.runs import ClaimedRun
from langgraph_serverless.domain.users import User

#: What a client may command. JavaScript's ``Command`` writes its class name beside them.
COMMANDS = ("update", "resume", "goto")
#: What a graph is given of a client's config. Callbacks and the like are objects, which no client can send.
CONFIG_KEYS = ("tags", "recursion_limit", "max_concurrency", "run_name")

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
    # stored as JSON; graphs look at its attributes
    if isinstance(user := configurable.get("langgraph_auth_user"), Mapping):
        configurable["langgraph_auth_user"] = User(user)
    config: dict[str, Any] = {key: value for key, value in stored.items() if key in CONFIG_KEYS}
    config["configurable"] = configurable
    config["run_id"] = run.run_id
    if tracers := _tracers(configurable):
        config["callbacks"] = tracers
    config["metadata"] = {
        **(stored.get("metadata") or {}),
        **{key: value for key, value in _VERSIONS.items() if value is not None},
        "run_attempt": claimed.attempt,
        "run_id": str(run.run_id),
        "thread_id": str(run.thread_id),
    }
    return config  # type: ignore[return-value]


def _tracers(configurable: Mapping[str, Any]) -> list[LangChainTracer]:
    """The tracer that the client asked for, if this deployment traces to LangSmith at all."""
    project, example = configurable.get("__langsmith_project__"), configurable.get("__langsmith_example_id__")
    if (project is None and example is None) or not tracing_is_enabled():
        return []
    return [LangChainTracer(project_name=project, example_id=example)]


def graph_input(kwargs: Mapping[str, Any]) -> Any:
    """The input, or the command, which wins if both were sent; one that commands nothing is none."""
    command = kwargs.get("command") or {}
    arguments = {key: command[key] for key in COMMANDS if command.get(key) is not None}
    for key in ("update", "goto"):
        if arguments.get(key) in ({}, [], ""):
            del arguments[key]  # LangGraph would stumble over it
    if not arguments:
        return kwargs.get("input")
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
