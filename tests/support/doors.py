"""Every way to name something of somebody else's in a request: for the walk of ``tests/security/test_walk.py``.

``DOORS`` has each route of the application with the requests that take an id there, one for each place that an id can stand in. A
request is made of two sets of names: ``h``, what is somebody else's (or, to compare, what nobody has), and ``b``, one's own. A route that takes
no id has an empty list and a reason in ``WITHOUT_IDS``; one that is not here at all fails the walk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: What there is of each of the two.
NAMES = (
    "thread",
    "run",
    "asking_thread",
    "asking_run",
    "waiting_thread",
    "waiting_run",
    "assistant",
    "cron",
    "thread_cron",
    "checkpoint",
    "interrupt",
    "namespace",
    "item",
    "key",
    "mark",
    "tool",
    "task",
    "push",
    "spare_thread",
)


@dataclass(frozen=True)
class Names:
    """Ids and names of one owner's things, as text."""

    of: Mapping[str, str]

    def __getattr__(self, name: str) -> str:
        return self.of[name]


@dataclass(frozen=True)
class Sent:
    """A request without its sender."""

    method: str
    path: str
    body: Any = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Make = Callable[[Names, Names], Sent]


@dataclass(frozen=True)
class Door:
    """One place for an id."""

    route: str
    about: str
    make: Make
    #: What the answer must be like: ``same`` as for an id that nobody has; ``fresh``, something new of one's own, the same status; ``taken``,
    #: a new id that cannot be had: ids are one space for all, so that it exists is said, and nothing else.
    answer: str = "same"
    #: Nobody can tell how often the database was asked, either.
    same_statements: bool = True
    #: The stream does not end by itself.
    endless: bool = False
    #: What the route answers to those whom the handlers allow nothing; 403 unless it asks no handler.
    denied: tuple[int, ...] = (403,)


DOORS: dict[str, list[Door]] = {}
#: Routes at which nothing can be named, and why.
WITHOUT_IDS = {
    "GET /": "public",
    "GET /ok": "public",
    "GET /info": "public",
    "GET /metrics": "public: numbers of the whole server",
    "GET /docs": "public",
    "GET /openapi.json": "public",
    "GET /mcp": "405: there are no sessions",
    "GET /mcp/": "405",
    "DELETE /mcp": "405",
    "DELETE /mcp/": "405",
}


def door(route: str, about: str, make: Callable[..., Mapping[str, Any]], **more: Any) -> None:
    """``make(h, b)`` gives ``path`` (ids for the route's places, in their order), ``body``, ``query`` and ``headers``."""
    method, _, template = route.partition(" ")

    def sent(h: Names, b: Names) -> Sent:
        made = dict(make(h, b))
        path = template
        for value in made.pop("path", ()):
            before, _, rest = path.partition("{")
            path = f"{before}{value}{rest.partition('}')[2]}"
        return Sent(method=method, path=path, **made)

    DOORS.setdefault(route, []).append(Door(route=route, about=about, make=sent, **more))


def _each(route: str, **places: Callable[..., Mapping[str, Any]]) -> None:
    for about, make in places.items():
        door(route, about.replace("_", " "), make)


# assistants
for _route in ("", "/graph", "/schemas", "/subgraphs"):
    _each(f"GET /assistants/{{assistant_id}}{_route}", assistant=lambda h, b: {"path": [h.assistant]})
_each("GET /assistants/{assistant_id}/subgraphs/{namespace}", assistant=lambda h, b: {"path": [h.assistant, "child"]})
_each(
    "PATCH /assistants/{assistant_id}", assistant=lambda h, b: {"path": [h.assistant], "body": {"metadata": {"x": 1}}}
)
_each(
    "DELETE /assistants/{assistant_id}",
    assistant=lambda h, b: {"path": [h.assistant]},
    with_threads=lambda h, b: {"path": [h.assistant], "query": {"delete_threads": "true"}},
)
_each("POST /assistants/{assistant_id}/versions", assistant=lambda h, b: {"path": [h.assistant], "body": {}})
_each("POST /assistants/{assistant_id}/latest", assistant=lambda h, b: {"path": [h.assistant], "body": {"version": 1}})
for _exists in ("raise", "do_nothing"):
    door(
        "POST /assistants",
        f"its id, {_exists}",
        lambda h, b, e=_exists: {"body": {"graph_id": "echo", "assistant_id": h.assistant, "if_exists": e}},
        answer="taken",
    )
door(
    "POST /assistants",
    "key",
    lambda h, b: {"body": {"graph_id": "echo"}, "headers": {"Idempotency-Key": h.key}},
    answer="fresh",
)
for _route in ("POST /assistants/search", "POST /assistants/count"):
    _each(
        _route,
        metadata=lambda h, b: {"body": {"metadata": {"mark": h.mark}}},
        name=lambda h, b: {"body": {"name": h.mark}},
    )

# threads
door("POST /threads", "its id, raise", lambda h, b: {"body": {"thread_id": h.thread}}, answer="taken")
door(
    "POST /threads",
    "its id, do nothing",
    lambda h, b: {"body": {"thread_id": h.thread, "if_exists": "do_nothing"}},
    answer="taken",
)
door("POST /threads", "key", lambda h, b: {"body": {}, "headers": {"Idempotency-Key": h.key}}, answer="fresh")
_each(
    "POST /threads/search",
    ids=lambda h, b: {"body": {"ids": [h.thread, h.waiting_thread]}},
    metadata=lambda h, b: {"body": {"metadata": {"mark": h.mark}}},
    values=lambda h, b: {"body": {"values": {"said": h.mark}}},
    status=lambda h, b: {"body": {"status": "interrupted", "metadata": {"mark": h.mark}}},
    assistant=lambda h, b: {"body": {"metadata": {"assistant_id": h.assistant}}},
)
_each(
    "POST /threads/count",
    metadata=lambda h, b: {"body": {"metadata": {"mark": h.mark}}},
    values=lambda h, b: {"body": {"values": {"said": h.mark}}},
)
_each(
    "POST /threads/prune",
    delete=lambda h, b: {"body": {"thread_ids": [h.thread]}},
    keep_latest=lambda h, b: {"body": {"thread_ids": [h.thread, h.waiting_thread], "strategy": "keep_latest"}},
)
_each(
    "GET /threads/{thread_id}",
    thread=lambda h, b: {"path": [h.thread]},
    with_a_lifetime=lambda h, b: {"path": [h.thread], "query": {"include": "ttl"}},
)
_each("PATCH /threads/{thread_id}", thread=lambda h, b: {"path": [h.thread], "body": {"metadata": {"x": 1}}})
_each(
    "DELETE /threads/{thread_id}",
    thread=lambda h, b: {"path": [h.thread]},
    busy=lambda h, b: {"path": [h.waiting_thread]},
)
_each("POST /threads/{thread_id}/copy", thread=lambda h, b: {"path": [h.thread]})
_each("GET /threads/{thread_id}/storage", thread=lambda h, b: {"path": [h.thread]})

# states
_each(
    "GET /threads/{thread_id}/state",
    thread=lambda h, b: {"path": [h.thread]},
    with_subgraphs=lambda h, b: {"path": [h.asking_thread], "query": {"subgraphs": "true"}},
)
_each(
    "POST /threads/{thread_id}/state",
    thread=lambda h, b: {"path": [h.thread], "body": {"values": {"said": "mine"}}},
    its_checkpoint=lambda h, b: {
        "path": [h.thread],
        "body": {"values": {"said": "mine"}, "checkpoint": {"checkpoint_id": h.checkpoint, "checkpoint_ns": ""}},
    },
    thread_in_the_checkpoint=lambda h, b: {
        "path": [b.thread],
        "body": {
            "values": {"said": "mine"},
            "checkpoint": {"thread_id": h.thread, "checkpoint_id": b.checkpoint, "checkpoint_ns": ""},
        },
    },
)
_each(
    "GET /threads/{thread_id}/state/{checkpoint_id}",
    both=lambda h, b: {"path": [h.thread, h.checkpoint]},
    thread=lambda h, b: {"path": [h.thread, b.checkpoint]},
    checkpoint=lambda h, b: {"path": [b.thread, h.checkpoint]},
)
_each(
    "POST /threads/{thread_id}/state/checkpoint",
    both=lambda h, b: {"path": [h.thread], "body": {"checkpoint": {"checkpoint_id": h.checkpoint}}},
    checkpoint=lambda h, b: {"path": [b.thread], "body": {"checkpoint": {"checkpoint_id": h.checkpoint}}},
    thread_in_the_checkpoint=lambda h, b: {
        "path": [b.thread],
        "body": {"checkpoint": {"checkpoint_id": h.checkpoint, "thread_id": h.thread}},
    },
)
_each("GET /threads/{thread_id}/history", thread=lambda h, b: {"path": [h.thread]})
_each(
    "POST /threads/{thread_id}/history",
    thread=lambda h, b: {"path": [h.thread], "body": {}},
    before=lambda h, b: {"path": [h.thread], "body": {"before": {"configurable": {"checkpoint_id": h.checkpoint}}}},
    checkpoint=lambda h, b: {
        "path": [b.thread],
        "body": {"checkpoint": {"checkpoint_id": h.checkpoint, "thread_id": h.thread}},
    },
)

# runs
for _end in ("", "/stream", "/wait"):
    _each(
        f"POST /threads/{{thread_id}}/runs{_end}",
        thread=lambda h, b: {"path": [h.thread], "body": {"assistant_id": "echo"}},
        asking=lambda h, b: {"path": [h.asking_thread], "body": {"assistant_id": "ask", "command": {"resume": "mine"}}},
        strategy=lambda h, b: {
            "path": [h.waiting_thread],
            "body": {"assistant_id": "echo", "multitask_strategy": "rollback"},
        },
        assistant=lambda h, b: {"path": [b.thread], "body": {"assistant_id": h.assistant}},
        both=lambda h, b: {"path": [h.thread], "body": {"assistant_id": h.assistant}},
    )
    door(
        f"POST /threads/{{thread_id}}/runs{_end}",
        "thread, if not exists",
        lambda h, b: {
            "path": [h.thread],
            "body": {"assistant_id": "echo", "after_seconds": 3600, "if_not_exists": "create"},
        },
        answer="taken",
        endless=_end != "",
    )
    _each(f"POST /runs{_end}", assistant=lambda h, b: {"body": {"assistant_id": h.assistant}})
for _route, _path in (("POST /runs", False), ("POST /threads/{thread_id}/runs", True)):
    door(
        _route,
        "thread in the config",
        lambda h, b, p=_path: {
            **({"path": [b.spare_thread]} if p else {}),
            "body": {
                "assistant_id": "echo",
                "after_seconds": 3600,
                "config": {"configurable": {"thread_id": h.thread, "checkpoint_id": h.checkpoint}},
            },
        },
        answer="fresh",
    )
    door(
        _route,
        "key",
        lambda h, b, p=_path: {
            **({"path": [b.spare_thread]} if p else {}),
            "body": {"assistant_id": "echo", "after_seconds": 3600},
            "headers": {"Idempotency-Key": h.key},
        },
        answer="fresh",
    )
door(
    "POST /threads/{thread_id}/runs",
    "checkpoint",
    lambda h, b: {
        "path": [b.spare_thread],
        "body": {
            "assistant_id": "echo",
            "after_seconds": 3600,
            "checkpoint": {"checkpoint_id": h.checkpoint, "thread_id": h.thread},
        },
    },
    answer="fresh",
)
_each(
    "POST /runs/batch",
    assistant=lambda h, b: {"body": [{"assistant_id": h.assistant}]},
    second=lambda h, b: {"body": [{"assistant_id": "echo", "after_seconds": 3600}, {"assistant_id": h.assistant}]},
)
_each(
    "POST /runs/cancel",
    runs=lambda h, b: {"body": {"thread_id": h.waiting_thread, "run_ids": [h.waiting_run]}},
    run_on_another_thread=lambda h, b: {"body": {"thread_id": b.thread, "run_ids": [h.waiting_run]}},
    thread=lambda h, b: {"body": {"thread_id": h.waiting_thread, "run_ids": [b.run]}},
)
_each("GET /threads/{thread_id}/runs", thread=lambda h, b: {"path": [h.thread]})
for _route in (
    "GET /threads/{thread_id}/runs/{run_id}",
    "DELETE /threads/{thread_id}/runs/{run_id}",
    "GET /threads/{thread_id}/runs/{run_id}/join",
):
    _each(
        _route,
        both=lambda h, b: {"path": [h.thread, h.run]},
        run=lambda h, b: {"path": [b.thread, h.run]},
        thread=lambda h, b: {"path": [h.thread, b.run]},
        of_one_that_waits=lambda h, b: {"path": [h.waiting_thread, h.waiting_run]},
    )
_each(
    "POST /threads/{thread_id}/runs/{run_id}/cancel",
    both=lambda h, b: {"path": [h.waiting_thread, h.waiting_run]},
    run=lambda h, b: {"path": [b.thread, h.waiting_run]},
    thread=lambda h, b: {"path": [h.waiting_thread, b.run]},
    rollback=lambda h, b: {"path": [h.waiting_thread, h.waiting_run], "query": {"action": "rollback"}},
)
_each("GET /runs/{run_id}/join", run=lambda h, b: {"path": [h.run]}, waiting=lambda h, b: {"path": [h.waiting_run]})
for _last in ("-1", "0-0", "1-0"):
    for _route, _two in (("GET /threads/{thread_id}/runs/{run_id}/stream", True), ("GET /runs/{run_id}/stream", False)):
        for _thread in ("h", "b") if _two else ("h",):
            door(
                _route,
                f"run of a {'hidden' if _thread == 'h' else 'visible'} thread, from {_last}",
                lambda h, b, two=_two, t=_thread, last=_last: {
                    "path": [(h if t == "h" else b).thread, h.run] if two else [h.run],
                    "headers": {"Last-Event-ID": last},
                },
            )
for _last in ("0-0", "1-0"):
    door(
        "GET /threads/{thread_id}/stream",
        f"thread, from {_last}",
        lambda h, b, last=_last: {"path": [h.thread], "headers": {"Last-Event-ID": last}},
        endless=True,
    )
door(
    "POST /threads/{thread_id}/stream/events",
    "thread",
    lambda h, b: {"path": [h.thread], "body": {"channels": ["values", "lifecycle", "input"], "since": 0}},
    endless=True,
)

# commands of the thread protocol; over a socket too
COMMANDS: dict[str, Callable[[Names, Names], dict[str, Any]]] = {
    "run.start": lambda h, b: {"assistant_id": h.assistant, "input": {}},
    "input.respond": lambda h, b: {"interrupt_id": h.interrupt, "namespace": [], "response": "mine"},
    "input.inject": lambda h, b: {"interrupt_id": h.interrupt, "namespace": []},
    "state.get": lambda h, b: {},
    "state.listCheckpoints": lambda h, b: {},
    "state.fork": lambda h, b: {"checkpoint_id": h.checkpoint, "input": {}},
    "agent.getTree": lambda h, b: {"run_id": h.run},
    "subscription.subscribe": lambda h, b: {"channels": ["values"]},
    "subscription.unsubscribe": lambda h, b: {"subscription_id": h.run},
    "subscription.reconnect": lambda h, b: {"channels": ["values"], "since": 0},
}
for _name, _params in COMMANDS.items():
    for _whose in ("h", "b"):
        door(
            "POST /threads/{thread_id}/commands",
            f"{_name} on a {'hidden' if _whose == 'h' else 'visible'} thread",
            lambda h, b, n=_name, p=_params, w=_whose: {
                "path": [(h if w == "h" else b).asking_thread],
                "body": {"id": 1, "method": n, "params": p(h, b)},
            },
            # an error of the protocol has HTTP's 200; some commands only say that there is no session
            denied=(200, 403),
            # a thread that nobody has would be made, if its assistant were there
            same_statements=_name != "run.start",
        )
door(
    "WS /threads/{thread_id}/stream/events",
    "thread",
    lambda h, b: {
        "path": [h.asking_thread],
        "body": [{"id": n, "method": m, "params": p(h, b)} for n, (m, p) in enumerate(COMMANDS.items())],
    },
    endless=True,
    denied=(200, 403, 4403),
)

# crons
for _route, _threaded in (("POST /runs/crons", False), ("POST /threads/{thread_id}/runs/crons", True)):
    _schedule = {"schedule": "0 0 1 1 *"}
    _each(
        _route,
        assistant=lambda h, b, t=_threaded, s=_schedule: {
            **({"path": [b.spare_thread]} if t else {}),
            "body": {"assistant_id": h.assistant, **s},
        },
    )
    if _threaded:
        _each(
            _route,
            thread=lambda h, b, s=_schedule: {"path": [h.thread], "body": {"assistant_id": "echo", **s}},
            both=lambda h, b, s=_schedule: {"path": [h.thread], "body": {"assistant_id": h.assistant, **s}},
        )
    door(
        _route,
        "key",
        lambda h, b, t=_threaded, s=_schedule: {
            **({"path": [b.spare_thread]} if t else {}),
            "body": {"assistant_id": "echo", **s},
            "headers": {"Idempotency-Key": h.key},
        },
        answer="fresh",
    )
for _route in ("POST /runs/crons/search", "POST /runs/crons/count"):
    _each(
        _route,
        assistant=lambda h, b: {"body": {"assistant_id": h.assistant}},
        thread=lambda h, b: {"body": {"thread_id": h.thread}},
        metadata=lambda h, b: {"body": {"metadata": {"mark": h.mark}}},
    )
for _method, _body in (("GET", None), ("PATCH", {"enabled": False}), ("DELETE", None)):
    _each(
        f"{_method} /runs/crons/{{cron_id}}",
        cron=lambda h, b, body=_body: {"path": [h.cron], "body": body},
        of_a_thread=lambda h, b, body=_body: {"path": [h.thread_cron], "body": body},
    )


# the store
def _item(h: Names, space: str, place: str) -> dict[str, Any]:
    # above it: where it would be if one could leave one's own root
    labels = [h.namespace] if space == "namespace" else ["", "acme", h.namespace]
    return {"namespace": ".".join(labels) if place == "query" else labels, "key": h.item}


for _space in ("namespace", "above it"):
    for _method, _place in (("GET", "query"), ("DELETE", "body")):
        door(
            f"{_method} /store/items",
            _space,
            lambda h, b, s=_space, p=_place: {p: _item(h, s, p)},
            denied=(403, 422),  # no label is empty
        )
_each(
    "POST /store/items/search",
    namespace=lambda h, b: {"body": {"namespace_prefix": [h.namespace]}},
    filter=lambda h, b: {"body": {"namespace_prefix": [], "filter": {"mark": h.mark}}},
)
_each(
    "POST /store/namespaces",
    prefix=lambda h, b: {"body": {"prefix": [h.namespace]}},
    suffix=lambda h, b: {"body": {"suffix": [h.namespace]}},
)
# last, as it makes an item of one's own with that name
for _space in ("namespace", "above it"):
    door(
        "PUT /store/items",
        _space,
        lambda h, b, s=_space: {"body": {**_item(h, s, "body"), "value": {"mine": 1}}},
        denied=(403, 422),
    )


# MCP and A2A
def _rpc(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


for _route in ("POST /mcp", "POST /mcp/"):
    for _tool in ("tool", "assistant"):
        door(
            _route,
            f"a call of the {_tool}'s name",
            lambda h, b, t=_tool: {
                "body": _rpc("tools/call", {"name": getattr(h, t), "arguments": {}}),
                "headers": {"Accept": "application/json, text/event-stream"},
            },
            denied=(200, 403),
        )
_each("GET /.well-known/agent-card.json", assistant=lambda h, b: {"query": {"assistant_id": h.assistant}})
_each("GET /a2a/{assistant_id}", assistant=lambda h, b: {"path": [h.assistant]})


def _message(text: str, **more: Any) -> dict[str, Any]:
    parts = [{"kind": "text", "text": text}]
    return {"message": {"role": "user", "kind": "message", "messageId": "m", "parts": parts, **more}}


_A2A: dict[str, Callable[[Names, Names], tuple[str, Any]]] = {
    "context": lambda h, b: ("message/send", _message("x", contextId=h.asking_thread)),
    "task": lambda h, b: ("message/send", _message("x", taskId=h.task)),
    "task and context": lambda h, b: ("message/send", _message("x", taskId=h.task, contextId=h.asking_thread)),
    "task, streamed": lambda h, b: ("message/stream", _message("x", taskId=h.task)),
    "get": lambda h, b: ("tasks/get", {"id": h.task}),
    "get with context": lambda h, b: ("tasks/get", {"id": h.task, "contextId": h.asking_thread}),
    "get a run": lambda h, b: ("tasks/get", {"id": h.run}),
    "list": lambda h, b: ("tasks/list", {"contextId": h.asking_thread}),
    "cancel": lambda h, b: ("tasks/cancel", {"id": h.task}),
    "cancel a run": lambda h, b: ("tasks/cancel", {"id": h.waiting_run}),
    "resubscribe": lambda h, b: ("tasks/resubscribe", {"id": h.task}),
    "push, set": lambda h, b: (
        "tasks/pushNotificationConfig/set",
        {"taskId": h.task, "pushNotificationConfig": {"id": "mine", "url": "https://example.com/a"}},
    ),
    "push, get": lambda h, b: ("tasks/pushNotificationConfig/get", {"id": h.task, "pushNotificationConfigId": h.push}),
    "push, list": lambda h, b: ("tasks/pushNotificationConfig/list", {"id": h.task}),
    "push, delete": lambda h, b: (
        "tasks/pushNotificationConfig/delete",
        {"id": h.task, "pushNotificationConfigId": h.push},
    ),
}
for _whose in ("hidden", "visible"):
    for _about, _call in _A2A.items():
        if _about == "context" and _whose == "visible":
            continue  # a context that nobody has is a new thread: `taken`, below
        door(
            "POST /a2a/{assistant_id}",
            f"{_about}, at a {_whose} assistant",
            lambda h, b, c=_call, w=_whose: {
                "path": [h.assistant if w == "hidden" else "ask"],
                "body": _rpc(*c(h, b)),
                "headers": {"Accept": "application/json, text/event-stream"},
            },
            denied=(200, 403),
        )
