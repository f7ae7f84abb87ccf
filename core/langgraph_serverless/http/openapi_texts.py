"""The words of the OpenAPI document: tags, parameters, fields, answers that are no success, headers.

Loaded at the first request for the document, so that no cold start pays for prose. A field is looked up as
``Model.field``, then as ``field``; a ``description`` that a model gives itself wins. ``tests/contract/test_openapi.py`` says
which field, parameter or operation still lacks its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

ABOUT = """\
The HTTP API of a LangGraph server: assistants, threads, runs, crons and a store.

Bodies are JSON. Fields of a body that are not listed are ignored; `null` is allowed only where a type says so. Times are
ISO 8601 in UTC. A body has a limit of size (413) and of nesting, 200 levels (422). Errors are `{"detail": "..."}` unless
an operation says otherwise. A NUL character in the values of a JSON document is dropped, as Postgres has no way to keep
it; in a name, a key or a filter it is refused."""

TAGS: Mapping[str, str] = {
    "Assistants": "A graph with a configuration and a name. Changes make versions.",
    "Threads": "What runs accumulate: a state, its history of checkpoints, metadata.",
    "Thread Runs": "Executions of an assistant on a thread. A thread executes one run at a time.",
    "Stateless Runs": "Executions on a thread that is made for them and, by default, removed with them.",
    "Crons": "Runs on a schedule.",
    "Store": "Items of long-term memory, by namespace and key, shared by all threads.",
    "A2A": "Assistants as agents for other agents: the Agent-to-Agent protocol, by JSON-RPC, in its versions 0.3 and 1.0.",
    "MCP": "Assistants as tools of the Model Context Protocol: streamable HTTP, without sessions.",
    "System": "Health, versions, metrics and this description.",
}

_BOOLEAN: Schema = {"type": "boolean", "default": False}
_STREAM_MODES = ("values", "messages", "messages-tuple", "tasks", "checkpoints", "updates", "events", "debug", "custom")
_THREAD_STREAM_MODES: Schema = {
    "type": "array",
    "items": {"type": "string", "enum": ["run_modes", "lifecycle", "state_update"]},
    "default": ["run_modes"],
}
_RUN_STATUSES = ("pending", "running", "error", "success", "timeout", "interrupted")
_RUN_COLUMNS = (
    *("run_id", "thread_id", "assistant_id", "created_at", "updated_at", "status", "metadata", "kwargs"),
    *("multitask_strategy", "langsmith_session_name"),
)

#: ``operation.parameter`` or ``parameter`` -> its words, and a schema that says more than its type in the code, which is
#: text wherever the server reads leniently.
PARAMETERS: Mapping[str, tuple[str, Schema | None]] = {
    "assistant_id": ("The assistant's id, a UUID.", None),
    "get_assistant_graph.assistant_id": ("The assistant's id, or a graph's.", None),
    "thread_id": ("The thread's id, a UUID.", None),
    "run_id": ("The run's id, a UUID.", None),
    "cron_id": ("The cron's id, a UUID.", None),
    "checkpoint_id": ("The checkpoint's id. An unknown one has an empty state.", None),
    "namespace": ("Where the subgraph is: its node, or nodes from the outside in, joined by `|`.", None),
    "get_item.namespace": ("The labels of the item's namespace, joined by dots.", None),
    "key": ("The item's key in its namespace. Required.", None),
    "refresh_ttl": ("Whether reading restarts the item's time to live. By default, as the store is configured.", None),
    "delete_threads": ("Whether the threads go too whose metadata names this assistant.", _BOOLEAN),
    "xray": (
        "Whether nodes that are graphs are shown with what is in them; a number is how many levels of that.",
        {"oneOf": [{"type": "boolean"}, {"type": "integer", "minimum": 1}], "default": False},
    ),
    "recurse": ("Whether subgraphs of subgraphs are included.", _BOOLEAN),
    "get_agent_card.assistant_id": ("The assistant's id, a UUID. Required.", {"type": "string", "format": "uuid"}),
    "get_assistant_card.assistant_id": ("The assistant's id, a UUID.", {"type": "string", "format": "uuid"}),
    "call_agent.assistant_id": ("The assistant's id, a UUID.", {"type": "string", "format": "uuid"}),
    "accept": (
        "`text/event-stream` for methods that stream, `application/json` for the others.",
        None,
    ),
    "LangGraph-A2A-History-Scope": (
        "Whether a task's history has what was said in the whole context or in the task alone.",
        {"type": "string", "enum": ["context", "task"], "default": "context"},
    ),
    "include": ("More fields to send, comma-separated. `ttl` is the one that exists.", None),
    "subgraphs": ("Whether the states of subgraphs are included in their tasks.", _BOOLEAN),
    "before": ("Only checkpoints older than the one with this id.", None),
    "limit": ("The most items to send.", None),
    "offset": ("How many items to skip.", None),
    "status": ("Only runs of this status.", {"type": "string", "enum": list(_RUN_STATUSES)}),
    "select": (
        "Only these fields of each run. May be given several times.",
        {"type": "array", "items": {"type": "string", "enum": list(_RUN_COLUMNS)}},
    ),
    "wait": ("Whether to answer only when the run has stopped.", None),
    "action": ("`interrupt` keeps the run and its checkpoints, `rollback` deletes both.", None),
    "reason": ("`taken` if the run's input went into another run; the thread's error begins with it.", None),
    "cancel_on_disconnect": ("Whether the run is cancelled if this connection is lost.", None),
    "stream_mode": (
        "Only events of these modes, out of those that the run was created with. May be given several times.",
        {"type": "array", "items": {"type": "string", "enum": list(_STREAM_MODES)}},
    ),
    "Idempotency-Key": (
        "Carry the request out once: a repeat with the same key and body gets the first answer again.",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
    ),
    "last-event-id": (
        "Continue after this event of a resumable run; `-1` is from its first event on. By default, from now on.",
        None,
    ),
    "stream_modes": (
        "`run_modes`: all that the runs emit, with a `metadata` event when one begins and when it is done; `lifecycle`: only those two;"
        " `state_update`: what is written to the state by hand. May be given several times.",
        _THREAD_STREAM_MODES,
    ),
    "stream_thread.stream_mode": ("The same, under the name that the SDKs use.", _THREAD_STREAM_MODES),
    "stream_thread.last-event-id": (
        "Continue after this event; `0-0` begins with what is still there of resumable runs. By default, from now on.",
        None,
    ),
    "format": (
        "`json`, or Prometheus's text format.",
        {"type": "string", "enum": ["prometheus", "json"], "default": "prometheus"},
    ),
    "check_db": ("`1` asks Postgres and Redis too.", {"type": "integer", "enum": [0, 1], "default": 0}),
}

#: ``Model.field`` or ``field`` -> its words.
FIELDS: Mapping[str, str] = {
    "A2ARequest.jsonrpc": "The protocol's version.",
    "A2ARequest.id": "The client's own name for this call; the answer has it too.",
    "A2ARequest.method": "What is to be done. Its spelling says which version the client speaks: `tasks/get` is 0.3, `GetTask` 1.0.",
    "A2ARequest.params": "What the method takes.",
    "A2AParams.message": "To the agent.",
    "A2AParams.configuration": (
        "`blocking` (1.0: `returnImmediately`), `historyLength`, `pushNotificationConfig` (1.0: `taskPushNotificationConfig`)."
    ),
    "A2AParams.metadata": "Becomes the run's.",
    "A2AParams.context": "The run's context.",
    "A2AParams.id": "A task's.",
    "A2AParams.contextId": "Only tasks of this context.",
    "A2AParams.historyLength": "The most messages of the history to send; 0 for none.",
    "A2AMessage.role": "`user`; of messages that the server sends, also `agent`.",
    "A2AMessage.parts": "What is said.",
    "A2AMessage.messageId": "The client's; it becomes the message's id in the thread.",
    "A2AMessage.contextId": "The thread, which is made if it is missing; without one, a new thread.",
    "A2AMessage.taskId": "A task that the message goes on with: the answer to what it asks, or something more for it to do.",
    "A2APart.kind": "May be left out.",
    "A2APart.text": "Text.",
    "A2APart.file": "`uri` or `bytes` (base64), `mimeType`, `name`. In 1.0 `url` or `raw`, `mediaType`, `filename` of the part itself.",
    "A2APart.data": "Fields of the graph's input, or of the answer to what it asks.",
    "A2AAnswer.jsonrpc": "The protocol's version.",
    "A2AAnswer.id": "The call's; `null` if it has none that can be read.",
    "A2AAnswer.result": "What has come of it: a task, a list of tasks, a card and so on.",
    "A2AAnswer.error": "Why nothing has. HTTP's status is 200 either way.",
    "A2AError.code": (
        "-32700 no JSON, -32600 no call, -32601 no such method, -32602 wrong parameters, -32001 no such task, -32002 it cannot"
        " be canceled, -32003 no push notifications, -32004 not now, -32005 a part of an unknown kind."
    ),
    "A2AError.message": "The reason, for people.",
    "A2ACardError.error": "Why there is no card.",
    "A2ACard.name": "The assistant's name.",
    "A2ACard.description": "The assistant's, or one made of its name.",
    "A2ACard.url": "Where it is called, as the client has reached this server.",
    "A2ACard.supportedInterfaces": "The same with each version of the protocol, the newest first.",
    "A2ACard.capabilities": "Streams, push notifications, extensions.",
    "A2ACard.defaultInputModes": "What it takes.",
    "A2ACard.defaultOutputModes": "What it gives.",
    "A2ACard.skills": "One: the assistant, with the fields of its graph's input.",
    "A2ACard.version": "The server's version.",
    "EventStreamRequest.channels": (
        "What is wanted: `values`, `updates`, `messages`, `tools`, `custom` (or `custom:<name>`), `lifecycle`, `input`, `tasks`,"
        " `checkpoints`."
    ),
    "EventStreamRequest.namespaces": (
        "Only of these namespaces and those below them; `[]` is the root. Task ids (behind a colon) may be left out."
    ),
    "EventStreamRequest.depth": "How many levels below each of the namespaces; all of them by default.",
    "EventStreamRequest.since": "Only events with a larger number (`seq`): where a lost stream is taken up again.",
    "CommandRequest.id": "The client's own number for this command; the answer has it too.",
    "CommandRequest.method": "`run.start`, `input.respond`, `state.get`, `state.listCheckpoints`, `state.fork`.",
    "CommandRequest.params": "What the method takes.",
    "CommandAnswer.type": "Whether the command was carried out. HTTP's status is 200 either way.",
    "CommandAnswer.id": "The command's.",
    "CommandAnswer.result": "What has come of it.",
    "CommandAnswer.meta": "What the client's session has seen: nothing, as every request is a session of its own.",
    "CommandAnswer.error": "`invalid_argument`, `unknown_command`, `no_such_run`, `no_such_interrupt`, `unknown_error` and so on.",
    "CommandAnswer.message": "The reason, for people.",
    "CommandMeta.applied_through_seq": "The number of the last event that was sent.",
    "after_seconds": "Seconds to wait before the run may start. The thread is busy meanwhile.",
    "api": "Requests that this process has answered, by method, route and status.",
    "as_node": "The node as which the values are written; what follows it comes next. `__input__` is the graph's input.",
    "assistant_id": "The id of the assistant.",
    "AssistantCreate.assistant_id": "The new assistant's id. By default, the server makes one.",
    "RunCreate.assistant_id": "The id of an assistant, or a graph's id for the assistant that every graph has.",
    "CronCreate.assistant_id": "The id of an assistant, or a graph's id for the assistant that every graph has.",
    "ThreadCronCreate.assistant_id": "The id of an assistant, or a graph's id for the assistant that every graph has.",
    "CronPatch.assistant_id": "Ignored: a cron keeps its assistant.",
    "CronPatch.thread_id": "Ignored: a cron keeps its thread.",
    "before": 'Only states older than this one: `{"configurable": {"checkpoint_id": ...}}` or `{"checkpoint_id": ...}`.',
    "channel_values": "Values in checkpoints.",
    "checkpoint": "The checkpoint that this belongs to.",
    "RunCreate.checkpoint": "The checkpoint to start from. By default, the thread's newest.",
    "StateUpdate.checkpoint": "The checkpoint to write on top of, which forks the history. By default, the newest.",
    "StateAtCheckpoint.checkpoint": "The checkpoint to read.",
    "HistoryRequest.checkpoint": "Whose history: `checkpoint_ns` names a subgraph.",
    "ThreadTask.checkpoint": "Where the state of the task's subgraph is, if it has one and the state is not included.",
    "checkpoint_during": "Deprecated: `true` is durability `async`, `false` is `exit`. `durability` wins.",
    "checkpoint_id": "The checkpoint's id.",
    "RunCreate.checkpoint_id": "The older spelling of `checkpoint.checkpoint_id`.",
    "StateUpdate.checkpoint_id": "The older spelling of `checkpoint.checkpoint_id`.",
    "ThreadState.checkpoint_id": "The older spelling of `checkpoint.checkpoint_id`.",
    "checkpoint_map": "Namespaces of the graphs around a subgraph, with the checkpoint's id in each.",
    "checkpoint_ns": "The subgraph's namespace; empty for the graph itself.",
    "CheckpointConfig.thread_id": "Ignored: the path names the thread.",
    "bytes": "The size in bytes.",
    "by_channel": "The same for each channel of the state.",
    "count": "How many there are.",
    "versions": "How many values of the channel there are.",
    "checkpoints": "The checkpoints themselves.",
    "command": "Instead of an input: `resume` answers interrupts, `update` writes values, `goto` names the next nodes.",
    "SuperstepUpdate.command": "A command instead of values: `update`, `resume`, `goto`.",
    "config": "LangChain's config: `tags`, `recursion_limit`, `configurable`.",
    "config_schema": "JSON schema of `config.configurable`.",
    "configurable": "What the graph may be configured with. Not together with `context`.",
    "StateUpdated.configurable": "The same as `checkpoint`, for older clients.",
    "context": "The static context of the graph's runs. Not together with `config.configurable`.",
    "context_schema": "JSON schema of `context`.",
    "created_at": "When it was created.",
    "cron_id": "The cron's id.",
    "description": "What it is for.",
    "detail": "What is wrong, in words. For a field of a body: the problem, the rule and where it is.",
    "durability": (
        "When checkpoints are written: `sync` before the next superstep, `async` during it, `exit` when the run ends. "
        "By default, as the server is configured."
    ),
    "edges": "Edges: `source`, `target`, and `conditional` or `data` if there is more to say.",
    "enabled": "Whether the cron fires.",
    "CronSearch.enabled": "Only crons that fire, or only those that do not.",
    "end_time": "From when on the cron does not fire, ISO 8601. `null` means never.",
    "error": "What went wrong: `error` is the exception's class, `message` its text. `null` if nothing did.",
    "ThreadTask.error": "The `repr` of the exception that the task has failed with.",
    "expires_at": "When the time is over.",
    "extract": (
        "Names of your own, each with a path such as `values.messages[-1].content`. Items get them in `extracted`. "
        "At most 10."
    ),
    "extracted": "What was asked for in `extract`, by name; `null` where the path leads nowhere.",
    "feedback_keys": "LangSmith's feedback keys, kept with the run.",
    "filter": (
        'Fields of the items\' values. A value has to be equal, or is a condition: `{"$gte": 3}` with `$eq`, `$ne`, `$gt`, '
        "`$gte`, `$lt`, `$lte`."
    ),
    "flags": "What this server can do.",
    "graph_id": "The id of a graph in `langgraph.json`.",
    "host": "Where the server runs.",
    "id": "The id.",
    "Interrupt.id": "The interrupt's id, for `command.resume`.",
    "ThreadTask.id": "The task's id.",
    "ids": "Only threads with these ids.",
    "if_exists": "If the id is taken: `raise` answers 409, `do_nothing` sends what is there.",
    "if_not_exists": "If the thread does not exist: `reject` answers 404, `create` makes it.",
    "index": "Fields to index for semantic search; `false` for none. By default, as the store is configured.",
    "input": "The graph's input.",
    "input_schema": "JSON schema of the input.",
    "interrupt_after": "Nodes after which the run stops; `*` is all.",
    "interrupt_before": "Nodes before which the run stops; `*` is all.",
    "interrupts": "Interrupts that wait for an answer.",
    "Thread.interrupts": "Interrupts that wait for an answer, by the id of their task.",
    "items": "The items of this page.",
    "key": "The item's key, unique in its namespace.",
    "kwargs": "What the run was created with.",
    "langgraph_py_version": "The version of langgraph that executes the graphs.",
    "LangSmithTracer.example_id": "The example of a dataset that the run belongs to.",
    "LangSmithTracer.project_name": "The LangSmith project to trace to.",
    "langsmith_tracer": "Where the run is traced to, if the deployment traces to LangSmith.",
    "langsmith_session_name": "Always `null`: LangSmith's session.",
    "limit": "The most items to send.",
    "max_depth": "Cut namespaces off after this many labels, and send each of them once.",
    "metadata": "What you like to keep with it.",
    "AssistantCreate.metadata": "What you like to keep with it. Searches can filter by it.",
    "ThreadCreate.metadata": "What you like to keep with it. Searches can filter by it.",
    "ThreadPatch.metadata": "Merged into the thread's metadata, key by key.",
    "AssistantPatch.metadata": "Merged into the assistant's metadata, key by key.",
    "AssistantFilter.metadata": "Only assistants whose metadata contains this.",
    "AssistantSearch.metadata": "Only assistants whose metadata contains this.",
    "VersionsSearch.metadata": "Only versions whose metadata contains this.",
    "ThreadFilter.metadata": "Only threads whose metadata contains this.",
    "ThreadSearch.metadata": "Only threads whose metadata contains this.",
    "CronCount.metadata": "Only crons whose metadata contains this.",
    "CronSearch.metadata": "Only crons whose metadata contains this.",
    "HistoryRequest.metadata": 'Only checkpoints whose metadata contains this, such as `{"step": 2}`.',
    "multitask_strategy": (
        "If the thread has live runs: `enqueue` waits for them, `reject` answers 409, `interrupt` stops them, "
        "`rollback` deletes them with their checkpoints."
    ),
    "Run.multitask_strategy": "What was to happen to the thread's live runs.",
    "name": "The name, for people.",
    "AssistantFilter.name": "Only assistants whose name contains this, in any case. Wildcards stand for themselves.",
    "AssistantSearch.name": "Only assistants whose name contains this, in any case. Wildcards stand for themselves.",
    "ThreadTask.name": "The node.",
    "namespace": "The labels of the namespace, from the root on. A label is not empty and has no periods.",
    "namespace_prefix": "Only items in this namespace and below. By default, all.",
    "namespaces": "The namespaces of this page.",
    "next": "The nodes that come next; none if the graph is at its end.",
    "next_run_date": "When the cron fires next, in UTC; `null` if it does not.",
    "nodes": "Nodes: `id`, and `type` and `data` of what is in them.",
    "offset": "How many items to skip.",
    "ok": "Always `true`.",
    "on_completion": "What becomes of a stateless run's thread when the run ends: `delete` or `keep`.",
    "on_disconnect": "If the connection of `stream` or `wait` is lost: `continue`, or `cancel` the run.",
    "on_run_completed": "What becomes of the thread of each run when it ends: `delete` or `keep`. `null` for crons of a thread.",
    "output_schema": "JSON schema of the output.",
    "parent_checkpoint": "The checkpoint before this one.",
    "parent_checkpoint_id": "The older spelling of `parent_checkpoint.checkpoint_id`.",
    "path": "How the task came about.",
    "payload": "What the cron was created with, and what each run gets.",
    "pending_writes": "Writes of tasks.",
    "prefix": "Only namespaces that begin so; `*` stands for any label.",
    "pruned_count": "How many threads were pruned.",
    "query": "Words to search for by meaning, if the store has an index.",
    "queue": "Runs that wait and runs that are executed, and how long they have waited, in seconds.",
    "Metrics.leases": "Running runs whose worker is lost, and what became of the leases of the last hour.",
    "Metrics.webhooks": "Webhooks that are still to be delivered, for how long the longest due one is due, and given up ones.",
    "Metrics.crons": "Crons whose time has come and that have not fired, and how late the latest is, in seconds.",
    "Metrics.workers": "Runs that the workers which have one could execute at once, that they execute, and the difference.",
    "recursion_limit": "The most supersteps of a run.",
    "refresh_ttl": "Whether reading restarts the items' time to live. By default, as the store is configured.",
    "result": "What the task has written, if it is over.",
    "run_id": "The run's id.",
    "run_ids": "Runs of the thread to cancel.",
    "schedule": "When to fire: a cron expression of five fields, six with seconds at the end, or an alias like `@daily`.",
    "score": "How well the item fits, in semantic search; otherwise `null`.",
    "select": "Only these fields of each item. By default, all.",
    "services": "What is down, in a sentence each; only with `check_db`.",
    "sort_by": "The field to sort by.",
    "sort_order": "Ascending or descending.",
    "state": "The state of the task's subgraph, if it was asked for.",
    "state_schema": "JSON schema of the state.",
    "state_updated_at": "When its state changed last.",
    "status": "Where it is in its life.",
    "Run.status": "Where the run is in its life. A run that stops at an interrupt is a `success`; `interrupted` is cancelled.",
    "Thread.status": "`busy` while a run waits or is executed, `interrupted` if the graph has not come to its end.",
    "ThreadFilter.status": "Only threads of this status.",
    "ThreadSearch.status": "Only threads of this status.",
    "RunsCancel.status": "Cancel all runs of this status. Not together with the other two.",
    "strategy": "When the time is over: `delete` the thread, or `keep_latest`, all but its newest checkpoints.",
    "ThreadPrune.strategy": "`delete` removes the threads, `keep_latest` all but their newest checkpoints.",
    "stream_mode": "What is streamed. Several modes at once are fine.",
    "stream_resumable": "Whether events get ids, so that a lost stream can be continued with `Last-Event-ID`.",
    "stream_subgraphs": "Whether events of subgraphs are streamed too.",
    "subgraphs": "Whether the states of subgraphs are included in their tasks.",
    "suffix": "Only namespaces that end so; `*` stands for any label.",
    "supersteps": "Supersteps to write at once, as if they had been executed. Needs `metadata.graph_id`.",
    "tags": "Tags of the run, for tracing.",
    "tasks": "The tasks of the next superstep, or of this one in a history.",
    "thread_id": "The id of the thread.",
    "ThreadCreate.thread_id": "The new thread's id. By default, the server makes one.",
    "RunsCancel.thread_id": "The thread whose runs are cancelled.",
    "CronResponse.thread_id": "The thread of the cron's runs; `null` if each gets one of its own.",
    "thread_ids": "The threads to prune. Unknown ones are passed over.",
    "timezone": "An IANA name, such as `Europe/Berlin`, in which the schedule is read. By default UTC.",
    "total_bytes": "The sum of all sizes, in bytes.",
    "ttl": "The time to live.",
    "TtlSetting.ttl": "Minutes to live, counted from the last change.",
    "ItemPut.ttl": "Minutes to live. By default, as the store is configured.",
    "Thread.ttl": "The time to live, if it was asked for; `null` if the thread has none.",
    "ttl_minutes": "Minutes to live, counted from the last change.",
    "updated_at": "When it changed last.",
    "updates": "The writes of one superstep.",
    "user_id": "Who has created the cron.",
    "value": "The item's value.",
    "Interrupt.value": "What the graph has asked.",
    "values": "The values of the state.",
    "Thread.values": "The values after the last run; `null` before the first.",
    "SuperstepUpdate.values": "Values to write.",
    "StateUpdate.values": "Values to write. The graph's reducers apply.",
    "ThreadFilter.values": "Only threads whose values contain this.",
    "ThreadSearch.values": "Only threads whose values contain this.",
    "version": "The version, counted from 1.",
    "Info.version": "The server's version.",
    "LatestVersion.version": "The version to make the current one. By default, the newest.",
    "webhook": "A URL that is sent the run when it ends.",
}

_NO_THREAD = "There is no such thread"
_NO_ASSISTANT = "There is no such assistant"
_NO_CRON = "There is no such cron"
_NO_RUN = "There is no such run on this thread"
_CONTEXT = "`config.configurable` and `context` are given together"
_BUSY = "The thread has live runs, and `multitask_strategy` is `reject`"
_NAMESPACE = "The namespace is empty or reserved"
_FULL = "As many runs are waiting as the tenant may have (`MAX_QUEUED_RUNS_PER_TENANT`)"
_CREATE_RUN = {400: _CONTEXT, 404: "There is no such thread or assistant", 409: _BUSY, 429: _FULL}
_GONE = {
    410: "The `Idempotency-Key` has been used for this request, and nothing is kept any longer of the run that it made"
}
_CREATE_STATELESS = {400: _CONTEXT, 404: _NO_ASSISTANT, 409: _BUSY, 429: _FULL}
_STATE = {400: "The graph has refused it, or the thread has no graph", 404: _NO_THREAD}

#: Operation -> status -> when, for answers with an error in them. 413 and 422 follow from what an operation takes, 503 is everywhere.
ERRORS: Mapping[str, Mapping[int, str]] = {
    "create_assistant": {400: _CONTEXT, 404: "There is no such graph", 409: "The id is taken"},
    "search_assistants": {404: "There is no such graph"},
    "count_assistants": {404: "There is no such graph"},
    "get_assistant": {404: _NO_ASSISTANT},
    "update_assistant": {400: _CONTEXT, 404: "There is no such assistant or graph"},
    "delete_assistant": {404: _NO_ASSISTANT},
    "list_assistant_versions": {404: _NO_ASSISTANT},
    "set_latest_assistant_version": {404: "There is no such assistant or version"},
    "get_assistant_graph": {404: _NO_ASSISTANT},
    "get_assistant_schemas": {404: _NO_ASSISTANT},
    "get_assistant_subgraphs": {404: _NO_ASSISTANT},
    "get_assistant_subgraph": {404: "There is no such assistant or subgraph"},
    "create_thread": {201: "The thread is made, but its `supersteps` could not be written", 409: "The id is taken"},
    "search_threads": {},
    "count_threads": {},
    "prune_threads": {},
    "get_thread": {404: _NO_THREAD},
    "update_thread": {404: _NO_THREAD},
    "delete_thread": {404: _NO_THREAD},
    "copy_thread": {409: _NO_THREAD},
    "get_thread_storage": {404: _NO_THREAD},
    "get_state": _STATE,
    "get_state_at": _STATE,
    "get_state_at_checkpoint": _STATE,
    "update_state": {**_STATE, 409: "The thread has live runs"},
    "get_history": _STATE,
    "search_history": _STATE,
    "create_run": _CREATE_RUN,
    "stream_run": _CREATE_RUN | _GONE,
    "wait_run": _CREATE_RUN | _GONE,
    "create_stateless_run": _CREATE_STATELESS,
    "create_run_batch": _CREATE_STATELESS,
    "stream_stateless_run": _CREATE_STATELESS | _GONE,
    "wait_stateless_run": _CREATE_STATELESS | _GONE,
    "stream_thread_events": {400: "`channels` is missing or has one that does not exist, or the body is no JSON"},
    "send_command": {400: "This is no command: no JSON, or without a whole number as its id or a method"},
    "cancel_runs": {404: "There is nothing to cancel"},
    "list_runs": {404: _NO_THREAD},
    "get_run": {404: _NO_RUN},
    "delete_run": {404: _NO_RUN},
    "cancel_run": {404: "There is no such run on this thread, or it is over"},
    "stream_thread": {},
    "join_run": {},
    "join_run_stream": {},
    "join_stateless_run": {},
    "join_stateless_run_stream": {},
    "create_cron": {400: _CONTEXT, 404: _NO_ASSISTANT},
    "create_thread_cron": {400: _CONTEXT, 404: "There is no such assistant or thread"},
    "search_crons": {},
    "count_crons": {},
    "get_cron": {404: _NO_CRON},
    "update_cron": {400: "The body is empty", 404: _NO_CRON},
    "delete_cron": {404: _NO_CRON},
    "put_item": {400: _NAMESPACE},
    "get_item": {400: "`key` is missing"},
    "delete_item": {},
    "search_items": {400: "The filter has an operator that does not exist"},
    "list_namespaces": {},
    "get_health": {500: "With `check_db`: Postgres does not answer; the body names what is down"},
    "get_info": {},
    "get_metrics": {},
    "post_mcp": {
        400: "This is no message of the protocol, or the client takes no answer of it",
        403: "This origin may not call",
    },
    "get_mcp": {},
    "delete_mcp": {},
    "get_agent_card": {},
    "get_assistant_card": {},
    "call_agent": {},
}

COMMON_ERRORS: Mapping[int, str] = {
    413: "The body is too large",
    422: "The request is malformed; the text names the field",
    503: "A database is out of reach or too busy; try again after `Retry-After` seconds",
}

#: Operations whose 422 may be plain text: a label of a namespace is malformed.
PLAIN_TEXT_422 = ("put_item", "get_item", "delete_item", "search_items", "list_namespaces")

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer"}
_LOCATION = ("Where the run is, relative to the server.", _TEXT)
_AGAIN = ("Where a lost connection is taken up again.", _TEXT)
_PAGE = {
    "X-Pagination-Total": ("The offset, the items of this page and, if there are more, one.", _NUMBER),
    "X-Pagination-Next": ("The offset of the next page, if there is one.", _NUMBER),
}
_FOLLOWED = {"Content-Location": _LOCATION, "Location": _AGAIN}

#: Operation -> headers of its success: words and schema.
HEADERS: Mapping[str, Mapping[str, tuple[str, Schema]]] = {
    "search_assistants": _PAGE,
    "search_threads": _PAGE,
    "search_crons": _PAGE,
    "create_run": {"Content-Location": _LOCATION},
    "create_stateless_run": {"Content-Location": _LOCATION},
    **dict.fromkeys(
        (
            *("stream_run", "stream_stateless_run", "wait_run", "wait_stateless_run", "cancel_run"),
            *("join_run", "join_run_stream", "join_stateless_run", "join_stateless_run_stream"),
        ),
        _FOLLOWED,
    ),
}

#: These answers, or their items, have only the fields that ``select`` names.
SELECTED = (
    *("search_assistants", "search_threads", "search_crons", "list_runs"),
    *("get_state", "get_state_at", "get_state_at_checkpoint", "search_history"),
)
