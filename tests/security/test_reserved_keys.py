"""Keys of ``configurable`` that are the server's and the engine's: a client's are overwritten or ignored, wherever they come in.

The graph answers with what it was given. The engine's own keys would break a run, so one that succeeds has not seen them;
what is stored does not have them either.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hostile import Hostile

FORGED = str(uuid.uuid4())
#: What the server says itself: nobody else does.
SERVERS = {
    "langgraph_auth_user": {"identity": "mallory", "permissions": ["*"]},
    "langgraph_auth_user_id": "mallory",
    "langgraph_auth_permissions": ["*"],
    "langgraph_auth_anything": "mallory",
    "langgraph_request_id": "mallory",
    "user_id": "mallory",
    "thread_id": FORGED,
    "run_id": FORGED,
}
#: Those of LangGraph's engine; each would crash a run or take it out of our hands.
ENGINES = {
    "__pregel_send": "mallory",
    "__pregel_read": "mallory",
    "__pregel_call": "mallory",
    "__pregel_checkpointer": False,
    "__pregel_stream": "mallory",
    "__pregel_resuming": True,
    "__pregel_task_id": "mallory",
    "__pregel_runtime": {"store": None},
    "__pregel_scratchpad": {},
    "__pregel_resume_map": {"mallory": 1},
    "__pregel_durability": "exit",
    "__pregel_node_finished": "mallory",
    "__after_seconds__": 1e9,
    "__proto__": {"polluted": True},
    "__class__": "mallory",
    "__event_streaming_v2": True,
    "__langsmith_project__": "mallory",
}
#: No keys of anybody, though they look like some: they stay what they are, a client's words.
LOOK_ALIKES = {
    "\uff3f\uff3fpregel_send": 1,
    "_\u200b_pregel_send": 1,
    " __pregel_send": 1,
    "langgraph\u005fauth\uff3fuser": 1,
    "l\u0430nggraph_auth_user_id": 1,
    "configurable": {"__pregel_send": 1, "thread_id": FORGED, "configurable": {"__pregel_read": 1}},
    "metadata": {"__pregel_send": 1},
}
HOSTILE = {**SERVERS, **ENGINES, "mine": "kept"}


def assert_clean(configurable: dict[str, Any]) -> None:
    assert "mallory" not in str(configurable)
    assert FORGED not in str(configurable)
    assert not set(configurable) & set(ENGINES) - {"__after_seconds__"}
    assert configurable.get("__after_seconds__", 0) == 0
    assert configurable["mine"] == "kept"


def ran(hostile: Hostile, **body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a graph saw of its configurable, and what was stored of it."""
    thread_id = hostile.make("POST", "/threads", {})["thread_id"]
    run = {"assistant_id": "dump", "input": {"asked": 1}, **body}
    output = hostile.make("POST", f"/threads/{thread_id}/runs/wait", run)
    assert "__error__" not in output, output
    stored = hostile.make("GET", f"/threads/{thread_id}/runs")[0]
    assert stored["status"] == "success"
    assert stored["thread_id"] == thread_id
    return output["saw"]["configurable"], stored["kwargs"]["config"]["configurable"]


def test_in_the_config_of_a_run(hostile: Hostile) -> None:
    for configurable in ran(hostile, config={"configurable": HOSTILE}):
        assert_clean(configurable)


def test_in_the_context_of_a_run(hostile: Hostile) -> None:
    for configurable in ran(hostile, context=HOSTILE):
        assert_clean(configurable)


def test_in_the_metadata_of_a_run(hostile: Hostile) -> None:
    """Checkpoints say whose they are: the caller's, whatever a client calls itself."""
    forged = {"langgraph_auth_user_id": "mallory", "langgraph_auth_user": "mallory", "mine": "kept"}
    thread_id = hostile.make("POST", "/threads", {"metadata": forged})["thread_id"]
    assistant = hostile.make("POST", "/assistants", {"graph_id": "dump", "metadata": forged})
    run = {"assistant_id": assistant["assistant_id"], "input": {"asked": 1}}
    for more in ({"metadata": forged}, {"config": {"metadata": forged}}, {}):
        output = hostile.make("POST", f"/threads/{thread_id}/runs/wait", run | more)
        assert output["saw"]["metadata"]["mine"] == "kept"
        assert "mallory" not in str(output["saw"])
    for stored in hostile.make("GET", f"/threads/{thread_id}/runs"):
        assert "mallory" not in str(stored["metadata"])
    for state in hostile.make("POST", f"/threads/{thread_id}/history", {"limit": 100}):
        assert "mallory" not in str(state["metadata"]), state["metadata"]


def test_in_the_context_that_a_graph_sees(hostile: Hostile) -> None:
    thread_id = hostile.make("POST", "/threads", {})["thread_id"]
    run = {"assistant_id": "dump", "input": {"asked": 1}, "context": HOSTILE}
    context = hostile.make("POST", f"/threads/{thread_id}/runs/wait", run)["saw"]["context"]
    assert not [key for key in context if key.startswith(("__", "langgraph_auth_"))]
    assert context["mine"] == "kept"


@pytest.mark.parametrize("field", ["config", "context"])
def test_in_an_assistant(hostile: Hostile, field: str) -> None:
    value = {"configurable": HOSTILE} if field == "config" else HOSTILE
    assistant = hostile.make("POST", "/assistants", {"graph_id": "dump", field: value})
    for configurable in ran(hostile, assistant_id=assistant["assistant_id"]):
        assert_clean(configurable)


@pytest.mark.parametrize("key", sorted(ENGINES))
def test_each_alone(hostile: Hostile, key: str) -> None:
    for configurable in ran(hostile, config={"configurable": {key: ENGINES[key], "mine": "kept"}}):
        assert_clean(configurable)


def test_in_the_config_of_a_thread_and_on_its_state(hostile: Hostile) -> None:
    thread_id = hostile.make("POST", "/threads", {})["thread_id"]
    run = {"assistant_id": "dump", "input": {"asked": 1}, "config": {"configurable": HOSTILE}}
    hostile.make("POST", f"/threads/{thread_id}/runs/wait", run)
    shown = hostile.make("GET", f"/threads/{thread_id}")["config"]["configurable"]
    # shown as the client's own words; whoever reads the thread for a run or a state takes the server's instead
    assert (shown.pop("user_id"), shown.pop("langgraph_request_id")) == ("mallory", "mallory")
    assert_clean(shown)
    hostile.make("POST", f"/threads/{thread_id}/state", {"values": {"asked": 2}, "checkpoint": HOSTILE})
    for state in hostile.make("POST", f"/threads/{thread_id}/history", {"limit": 100}):
        assert "mallory" not in str(state["metadata"])
        assert state["checkpoint"]["thread_id"] == thread_id
    # another's thread cannot be named in a checkpoint either
    missing = hostile.make("GET", f"/threads/{thread_id}/state")
    assert missing["checkpoint"]["thread_id"] == thread_id


def test_a_checkpoint_of_another_thread_is_not_reached(hostile: Hostile) -> None:
    secret = hostile.make("POST", "/threads", {})["thread_id"]
    hostile.make("POST", f"/threads/{secret}/runs/wait", {"assistant_id": "line", "input": {"log": ["secret"]}})
    there = hostile.make("GET", f"/threads/{secret}/state")["checkpoint"]
    mine = hostile.make("POST", "/threads", {"metadata": {"graph_id": "line"}})["thread_id"]
    for method, path, body in (
        ("GET", f"/threads/{mine}/state/{there['checkpoint_id']}", None),
        ("POST", f"/threads/{mine}/state/checkpoint", {"checkpoint": there}),
        ("POST", f"/threads/{mine}/history", {"checkpoint": there}),
        ("POST", f"/threads/{mine}/history", {"before": {"configurable": {**there, "checkpoint_id": "f" * 36}}}),
    ):
        assert "secret" not in str(hostile.make(method, path, body)), path
    for where in ({"checkpoint": there}, {"config": {"configurable": there}}):
        output = hostile.make(
            "POST", f"/threads/{mine}/runs/wait", {"assistant_id": "line", "input": {"log": ["in"]}, **where}
        )
        assert "secret" not in str(output)


def test_a_cron_stores_but_does_not_pass_them_on(hostile: Hostile) -> None:
    body = {"assistant_id": "dump", "schedule": "@yearly", "config": {"configurable": HOSTILE}}
    cron = hostile.make("POST", "/runs/crons", body)
    assert cron["user_id"] == ""
    assert cron["payload"]["config"]["configurable"]["cron_id"] == cron["cron_id"]
    hostile.make("DELETE", f"/runs/crons/{cron['cron_id']}")


def test_a_graph_that_is_only_looked_at(hostile: Hostile) -> None:
    configurable = {**HOSTILE, "name": "mine"}
    assistant = hostile.make("POST", "/assistants", {"graph_id": "factory", "config": {"configurable": configurable}})
    drawing = hostile.make("GET", f"/assistants/{assistant['assistant_id']}/graph")
    assert "mine" in [node["id"] for node in drawing["nodes"]]


def test_what_only_looks_like_one_stays_a_word(hostile: Hostile) -> None:
    """The engine compares names as they are; so do we, and neither is taken in by the other's letters."""
    for configurable in ran(hostile, config={"configurable": {**LOOK_ALIKES, **HOSTILE}}):
        assert {key: configurable.get(key) for key in LOOK_ALIKES} == LOOK_ALIKES
        assert_clean({key: value for key, value in configurable.items() if key not in LOOK_ALIKES})


@pytest.mark.parametrize("way", ["stream", "batch", "stateless", "command"])
def test_in_every_way_to_make_a_run(hostile: Hostile, way: str) -> None:
    config = {"configurable": HOSTILE}
    run = {"assistant_id": "dump", "input": {"asked": 1}, "config": config}
    thread_id = hostile.make("POST", "/threads", {})["thread_id"]
    if way == "stream":
        hostile.client.post(f"/threads/{thread_id}/runs/stream", json=run).read()
    elif way == "batch":
        (made,) = hostile.make("POST", "/runs/batch", [{**run, "on_completion": "keep"}])
        thread_id = made["thread_id"]
    elif way == "stateless":
        thread_id = hostile.make("POST", "/runs", {**run, "on_completion": "keep"})["thread_id"]
    else:
        command = {"id": 1, "method": "run.start", "params": run}
        assert hostile.make("POST", f"/threads/{thread_id}/commands", command)["type"] == "success"
    (made,) = hostile.make("GET", f"/threads/{thread_id}/runs")
    hostile.make("GET", f"/threads/{thread_id}/runs/{made['run_id']}/join")
    (made,) = hostile.make("GET", f"/threads/{thread_id}/runs")
    assert made["status"] == "success"
    stored = made["kwargs"]["config"]["configurable"]
    assert stored.pop("__event_streaming_v2", False) == (way == "command")
    assert_clean(stored)
    assert_clean(hostile.make("GET", f"/threads/{thread_id}/state")["values"]["saw"]["configurable"])
