"""One example for each body and answer of the OpenAPI document, by the name of its model.

Loaded with the document. ``tests/contract/test_openapi.py`` reads each of them with its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ASSISTANT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"
_THREAD = "019ac1f2-6f5e-7d05-8f3c-4b8f2f6d9a10"
_RUN = "019ac1f2-7a31-7c2e-9d44-1c5e0b7a6f21"
_CRON = "019ac1f3-0b52-7f18-a0c9-5d2c8e9b4a32"
_CHECKPOINT = "1f0c6b5e-3d4a-6a8e-8001-9f1d2c3b4a50"
_THEN, _NOW = "2026-01-02T03:04:05.678901+00:00", "2026-01-02T03:05:06.789012+00:00"
_INPUT = {"messages": [{"role": "user", "content": "hello"}]}
_VALUES = {
    "messages": [{"type": "human", "content": "hello", "id": "m1"}, {"type": "ai", "content": "Hi there", "id": "m2"}]
}
_PLACE = {"thread_id": _THREAD, "checkpoint_ns": "", "checkpoint_id": _CHECKPOINT}
_STATE = {"title": "State", "type": "object", "properties": {"messages": {"type": "array"}}}
_ITEM = {
    "namespace": ["users", "u1"],
    "key": "profile",
    "value": {"language": "en"},
    "created_at": _THEN,
    "updated_at": _NOW,
}
_VERSION = {
    "assistant_id": _ASSISTANT,
    "version": 2,
    "graph_id": "chat_agent",
    "config": {"configurable": {"model": "small"}},
    "context": {"model": "small"},
    "metadata": {"team": "support"},
    "name": "Support",
    "created_at": _THEN,
    "description": "Answers the first question",
}
_GRAPH_SCHEMA = {
    "input_schema": _STATE,
    "output_schema": _STATE,
    "state_schema": _STATE,
    "config_schema": {},
    "context_schema": None,
}

REQUESTS: Mapping[str, Any] = {
    "AssistantCreate": {"graph_id": "chat_agent", "name": "Support", "context": {"model": "small"}},
    "AssistantSearch": {"metadata": {"team": "support"}, "limit": 20, "sort_by": "name", "sort_order": "asc"},
    "AssistantFilter": {"graph_id": "chat_agent"},
    "AssistantPatch": {"context": {"model": "large"}},
    "VersionsSearch": {"limit": 5},
    "LatestVersion": {"version": 1},
    "ThreadCreate": {"metadata": {"user": "u1"}, "if_exists": "do_nothing", "ttl": {"strategy": "delete", "ttl": 60}},
    "ThreadSearch": {
        "metadata": {"user": "u1"},
        "status": "idle",
        "select": ["thread_id", "updated_at"],
        "extract": {"last": "values.messages[-1].content"},
    },
    "ThreadFilter": {"status": "busy"},
    "ThreadPrune": {"thread_ids": [_THREAD], "strategy": "delete"},
    "ThreadPatch": {"metadata": {"topic": "greetings"}},
    "StateUpdate": {"values": {"messages": [{"role": "ai", "content": "Hi there"}]}, "as_node": "agent"},
    "StateAtCheckpoint": {"checkpoint": {"checkpoint_id": _CHECKPOINT}, "subgraphs": True},
    "HistoryRequest": {"limit": 10, "metadata": {"source": "loop"}},
    "RunCreate": {
        "assistant_id": "chat_agent",
        "input": _INPUT,
        "metadata": {"source": "docs"},
        "stream_mode": ["values", "messages-tuple"],
        "multitask_strategy": "enqueue",
    },
    "RunsCancel": {"thread_id": _THREAD, "run_ids": [_RUN]},
    "EventStreamRequest": {"channels": ["values", "messages", "lifecycle", "input"], "namespaces": [[]], "since": 17},
    "CommandRequest": {"id": 1, "method": "run.start", "params": {"assistant_id": "chat_agent", "input": _INPUT}},
    "A2ARequest": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "message/send",
        "params": {"message": {"role": "user", "parts": [{"kind": "text", "text": "hello"}], "messageId": "m1"}},
    },
    "CronCreate": {
        "assistant_id": "chat_agent",
        "schedule": "0 5 * * *",
        "timezone": "Europe/Berlin",
        "input": _INPUT,
        "on_run_completed": "keep",
    },
    "ThreadCronCreate": {"assistant_id": "chat_agent", "schedule": "@daily", "input": _INPUT},
    "CronPatch": {"enabled": False},
    "CronSearch": {"enabled": True, "sort_by": "next_run_date", "sort_order": "asc"},
    "CronCount": {"thread_id": _THREAD},
    "ItemPut": {"namespace": ["users", "u1"], "key": "profile", "value": {"language": "en"}, "ttl": 1440},
    "ItemDelete": {"namespace": ["users", "u1"], "key": "profile"},
    "ItemSearch": {"namespace_prefix": ["users"], "filter": {"language": "en"}},
    "NamespaceSearch": {"prefix": ["users"], "max_depth": 2},
}

RESPONSES: Mapping[str, Any] = {
    "Assistant": {**_VERSION, "updated_at": _NOW},
    "AssistantVersion": _VERSION,
    "GraphSchema": {"graph_id": "chat_agent", **_GRAPH_SCHEMA},
    "SubgraphSchema": _GRAPH_SCHEMA,
    "GraphDrawing": {
        "nodes": [
            {"id": "__start__", "type": "runnable", "data": {"id": ["langgraph"], "name": "__start__"}},
            {"id": "agent", "type": "runnable", "data": {"id": ["langgraph"], "name": "agent"}},
        ],
        "edges": [{"source": "__start__", "target": "agent"}],
    },
    "Thread": {
        "thread_id": _THREAD,
        "created_at": _THEN,
        "updated_at": _NOW,
        "state_updated_at": _NOW,
        "metadata": {"user": "u1", "graph_id": "chat_agent", "assistant_id": _ASSISTANT},
        "config": {"configurable": {}},
        "status": "idle",
        "values": _VALUES,
        "interrupts": {},
        "error": None,
    },
    "PruneResult": {"pruned_count": 1},
    "ThreadStorage": {
        "thread_id": _THREAD,
        "total_bytes": 14755,
        "checkpoints": {"count": 16, "bytes": 14230},
        "channel_values": {"count": 30, "bytes": 88, "by_channel": {"messages": {"versions": 8, "bytes": 78}}},
        "pending_writes": {"count": 19, "bytes": 437},
    },
    "ThreadState": {
        "values": _VALUES,
        "next": [],
        "tasks": [],
        "metadata": {"source": "loop", "step": 1, "parents": {}, "run_id": _RUN, "thread_id": _THREAD},
        "created_at": _NOW,
        "checkpoint": _PLACE,
        "parent_checkpoint": {**_PLACE, "checkpoint_id": "1f0c6b5e-3d40-6f1c-8000-6a5b4c3d2e10"},
        "interrupts": [],
        "checkpoint_id": _CHECKPOINT,
        "parent_checkpoint_id": "1f0c6b5e-3d40-6f1c-8000-6a5b4c3d2e10",
    },
    "StateUpdated": {"checkpoint": _PLACE, "configurable": _PLACE, "checkpoint_id": _CHECKPOINT},
    "Run": {
        "run_id": _RUN,
        "thread_id": _THREAD,
        "assistant_id": _ASSISTANT,
        "created_at": _THEN,
        "updated_at": _THEN,
        "status": "pending",
        "metadata": {"source": "docs"},
        "kwargs": {"input": _INPUT, "stream_mode": ["values"]},
        "multitask_strategy": "enqueue",
        "langsmith_session_name": None,
    },
    "A2AAnswer": {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "kind": "task",
            "id": f"{_THREAD}:{_RUN}",
            "contextId": _THREAD,
            "status": {"state": "completed", "timestamp": _NOW},
            "artifacts": [
                {
                    "artifactId": "2e234bec-9a7d-5b37-9b1a-b46a934682d4",
                    "name": "Assistant Response",
                    "description": f"Response from assistant {_ASSISTANT}",
                    "parts": [{"kind": "text", "text": "Hi there"}],
                }
            ],
        },
    },
    "A2ACard": {
        "name": "Support",
        "description": "Answers the first question",
        "url": f"https://agents.example.com/a2a/{_ASSISTANT}",
        "supportedInterfaces": [
            {
                "url": f"https://agents.example.com/a2a/{_ASSISTANT}",
                "protocolBinding": "JSONRPC",
                "protocolVersion": "1.0",
            }
        ],
        "capabilities": {"streaming": True, "pushNotifications": True, "stateTransitionHistory": False},
        "defaultInputModes": ["application/json", "text/plain"],
        "defaultOutputModes": ["application/json", "text/plain"],
        "skills": [
            {
                "id": f"{_ASSISTANT}-main",
                "name": "Support Capabilities",
                "description": "Answers the first question",
                "tags": ["assistant", "langgraph"],
            }
        ],
        "version": "0.1.0",
    },
    "A2ACardError": {"error": {"code": -32602, "message": f"Assistant '{_ASSISTANT}' not found"}},
    "CommandAnswer": {"type": "success", "id": 1, "result": {"run_id": _RUN}, "meta": {"applied_through_seq": 0}},
    "CronResponse": {
        "cron_id": _CRON,
        "assistant_id": _ASSISTANT,
        "thread_id": None,
        "user_id": "",
        "end_time": None,
        "schedule": "0 5 * * *",
        "timezone": "Europe/Berlin",
        "payload": {"assistant_id": _ASSISTANT, "schedule": "0 5 * * *", "input": _INPUT},
        "next_run_date": "2026-01-03T04:00:00+00:00",
        "metadata": {},
        "on_run_completed": "keep",
        "enabled": True,
        "created_at": _THEN,
        "updated_at": _THEN,
    },
    "ItemResponse": _ITEM,
    "ItemsResponse": {"items": [{**_ITEM, "score": None}]},
    "NamespacesResponse": {"namespaces": [["users", "u1"], ["users", "u2"]]},
    "Health": {"ok": True, "services": {}},
    "Info": {
        "version": "0.1.0",
        "langgraph_py_version": "1.2.22",
        "flags": {"assistants": True, "crons": True},
        "host": {"kind": "self-hosted"},
    },
    "Metrics": {
        "queue": {
            "n_pending": 1,
            "n_running": 2,
            "pending_runs_wait_time_max_secs": 0.4,
            "pending_runs_wait_time_med_secs": 0.4,
            "pending_unblocked_runs_wait_time_max_secs": 0.4,
            "n_pending_over_limit": 0,
        },
        "leases": {
            "n_expired": 0,
            "n_expiries_last_hour": 1,
            "n_handoffs_last_hour": 3,
            "n_repeats_last_hour": 1,
            "n_given_up_last_hour": 0,
        },
        "webhooks": {"n_undelivered": 1, "lag_max_secs": 0.2, "n_dead": 0},
        "crons": {"n_overdue": 0, "lag_max_secs": None},
        "workers": {"max": 10, "active": 1, "available": 9},
        "api": {"http_requests_total": [{"method": "GET", "path": "/ok", "status": 200, "count": 12}]},
    },
    "ErrorResponse": {"detail": f"Thread with ID {_THREAD} not found"},
}

STREAM = (
    f'event: metadata\r\ndata: {{"run_id":"{_RUN}","attempt":1}}\r\n\r\n'
    'event: values\r\ndata: {"messages":[{"type":"human","content":"hello"}]}\r\n\r\n'
)
#: Operation -> what its stream looks like, if it is another one.
STREAMS: Mapping[str, str] = {
    "call_agent": (
        "event: message\r\n"
        f'data: {{"jsonrpc":"2.0","id":1,"result":{{"kind":"task","id":"{_THREAD}:{_RUN}","contextId":"{_THREAD}",'
        f'"status":{{"state":"submitted","timestamp":"{_NOW}"}},"history":[]}}}}\r\n\r\n'
    ),
    "stream_thread_events": (
        "event: lifecycle\r\n"
        f'data: {{"type":"event","event_id":"synth:{_RUN}:lc||running","seq":18,"method":"lifecycle","params":{{"namespace":[],'
        '"timestamp":1795328712578,"data":{"event":"running","graph_name":"chat_agent"}}}\r\n'
        "id: 18\r\n\r\n"
    ),
}
OUTPUT = _VALUES
METRICS = (
    "# HELP lg_api_num_pending_runs Runs that wait.\n# TYPE lg_api_num_pending_runs gauge\nlg_api_num_pending_runs 0\n"
)
