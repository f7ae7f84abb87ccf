"""What a run is asked to do: merging, reserved keys, what is refused."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from langgraph_serverless.domain.principal import ANONYMOUS, Principal
from langgraph_serverless.domain.run_kwargs import RunPlan, check_request, plan_run
from langgraph_serverless.domain.runs import Durability, RunRequest
from langgraph_serverless.errors import BadRequestError, InvalidInputError

RUN, THREAD, ASSISTANT = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()


def plan(request: RunRequest, caller: Principal = ANONYMOUS, **changes: Any) -> RunPlan:
    arguments: dict[str, Any] = {
        "run_id": RUN,
        "thread_id": THREAD,
        "assistant_id": ASSISTANT,
        "graph_id": "g",
        "assistant_config": {},
        "assistant_context": {},
        "assistant_metadata": {},
        "thread_metadata": {},
        "context_keys": None,
        "stateless": False,
        "now_ms": 1,
        "default_durability": Durability.ASYNC,
    }
    return plan_run(request, caller, **{**arguments, **changes})


def test_configurable_is_merged_key_by_key_and_the_rest_replaced() -> None:
    request = RunRequest(assistant_id="g", config={"configurable": {"a": 2}, "tags": ["r"]})
    assistant = {"configurable": {"a": 1, "b": 1}, "tags": ["x"], "recursion_limit": 7}
    config = plan(request, assistant_config=assistant).kwargs["config"]
    assert {key: config["configurable"][key] for key in ("a", "b")} == {"a": 2, "b": 1}
    assert (config["tags"], config["recursion_limit"]) == (["r"], 7)


@pytest.mark.parametrize("way", ["config", "context"])
def test_a_client_cannot_set_what_is_the_servers(way: str) -> None:
    sent = {
        "thread_id": "mine",
        "run_id": "mine",
        "user_id": "mallory",
        "langgraph_auth_user": {"identity": "mallory"},
        "langgraph_auth_user_id": "mallory",
        "__pregel_send": "x",
        "__pregel_checkpointer": "x",
        "kept": 1,
    }
    fields: Any = {"context": sent} if way == "context" else {"config": {"configurable": sent}}
    made = plan(RunRequest(assistant_id="g", **fields), Principal(identity="alice"))
    configurable = made.kwargs["config"]["configurable"]
    assert configurable["thread_id"] == str(THREAD)
    assert configurable["run_id"] == str(RUN)
    assert configurable["user_id"] == configurable["langgraph_auth_user_id"] == "alice"
    assert configurable["langgraph_auth_user"] is None
    assert configurable["kept"] == 1
    assert not [key for key in configurable if key.startswith("__pregel")]
    assert not [key for key in made.thread_config["configurable"] if key.startswith("__pregel")]


def test_context_is_laid_over_the_assistants_and_cut_to_the_schema() -> None:
    request = RunRequest(assistant_id="g", context={"model": "new", "unknown": 1})
    made = plan(request, assistant_context={"model": "old", "k": 3}, context_keys=frozenset({"model", "k"}))
    assert made.kwargs["context"] == {"model": "new", "k": 3}
    assert made.kwargs["config"]["configurable"]["model"] == "new"
    assert "unknown" not in made.kwargs["config"]["configurable"]
    assert plan(RunRequest(assistant_id="g")).kwargs["context"] == {}


def test_metadata_later_wins() -> None:
    request = RunRequest(
        assistant_id="g", metadata={"a": "request"}, config={"metadata": {"a": "config", "b": "config"}}
    )
    layers = {"assistant_metadata": {"a": 1, "b": 1, "c": 1, "d": 1}, "thread_metadata": {"c": "thread"}}
    metadata = plan(request, **layers).metadata
    assert {key: metadata[key] for key in "abcd"} == {"a": "request", "b": "config", "c": "thread", "d": 1}
    assert (metadata["graph_id"], metadata["assistant_id"]) == ("g", str(ASSISTANT))


def test_nobody_but_the_server_says_who_the_caller_is() -> None:
    forged = {"langgraph_auth_user_id": "mallory", "langgraph_auth_user": "mallory", "kept": 1}
    layers = {"assistant_metadata": forged, "thread_metadata": forged}
    request = RunRequest(assistant_id="g", metadata=forged, config={"metadata": forged}, context=forged)
    made = plan(request, Principal(identity="alice"), **layers)
    for part in (made.metadata, made.kwargs["config"]["metadata"], made.kwargs["context"]):
        assert part["kept"] == 1
        assert "mallory" not in str(part)


def test_headers_reach_no_internals() -> None:
    names = ("__pregel_read", "langgraph_auth_any", "thread_id", "run_id", "checkpoint_id", "checkpoint_ns")
    headers = {"x-tenant": "a", **dict.fromkeys(names, "mallory")}
    configurable = plan(RunRequest(assistant_id="g", configurable_headers=headers)).kwargs["config"]["configurable"]
    assert configurable["x-tenant"] == "a"
    assert "mallory" not in str(configurable)


def test_a_named_checkpoint_and_durability_reach_the_run() -> None:
    request = RunRequest(
        assistant_id="g", checkpoint={"checkpoint_id": "c1", "checkpoint_ns": ""}, durability=Durability.EXIT
    )
    kwargs = plan(request).kwargs
    assert kwargs["config"]["configurable"]["checkpoint_id"] == "c1"
    # checkpoint_during is shown as it was sent
    assert (kwargs["durability"], kwargs["checkpoint_during"]) == ("exit", True)
    assert plan(RunRequest(assistant_id="g")).kwargs["durability"] == "async"


def test_only_the_request_says_where_a_run_starts() -> None:
    place = {"checkpoint_id": 5, "checkpoint_ns": ["x"], "checkpoint_map": 5}
    assistant = {"configurable": {"checkpoint_ns": "elsewhere", "checkpoint_id": "c1", "kept": 1}}
    made = plan(RunRequest(assistant_id="g", context=place), assistant_config=assistant)
    configurable = made.kwargs["config"]["configurable"]
    assert configurable["kept"] == 1
    assert not set(place) & set(configurable)


def test_contradictions_are_refused_by_name() -> None:
    with pytest.raises(BadRequestError, match="both configurable and context"):
        check_request(RunRequest(assistant_id="g", context={"a": 1}, config={"configurable": {"a": 1}}))
    with pytest.raises(InvalidInputError, match="Invalid webhook hostname"):
        check_request(RunRequest(assistant_id="g", webhook="example.com"))
    resuming = RunRequest(assistant_id="g", command={"resume": False})
    check_request(resuming)
    with pytest.raises(BadRequestError, match="You must provide a thread_id when resuming"):
        check_request(resuming, stateless=True)
    check_request(RunRequest(assistant_id="g", command={"resume": None, "goto": "a"}), stateless=True)


def test_what_a_config_holds_besides_is_kept_and_the_assistant_is_the_servers() -> None:
    request = RunRequest(
        assistant_id="g",
        config={"unknown": 1, "run_name": "n", "metadata": {"assistant_id": "theirs"}},
        metadata={"assistant_id": "mine", "graph_id": "mine"},
        langsmith_tracer={"project_name": "p", "example_id": None},
    )
    config = plan(request, assistant_config={"unknown": 0, "other": 2}).kwargs["config"]
    assert (config["unknown"], config["other"], config["run_name"]) == (1, 2, "n")
    assert (config["metadata"]["assistant_id"], config["metadata"]["graph_id"]) == (str(ASSISTANT), "mine")
    assert config["configurable"]["__langsmith_project__"] == "p"
    untraced = plan(RunRequest(assistant_id="g", langsmith_tracer={})).kwargs["config"]["configurable"]
    assert "__langsmith_project__" not in untraced
