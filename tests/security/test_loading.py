"""What is read back from the database calls nothing that was not known before (S6): crafted blobs of every kind, in every place.

A canary module writes down that it was imported and what of it was called; nothing may be in there. The other half: what an ordinary
project keeps in its states comes back as it was, and what does not is said in the log.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import logging
import os
import pickle
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ormsgpack
import pytest
from figures import Figures
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer, _msgpack_enc
from langgraph.types import Command, Interrupt, Send
from langgraph_sdk.client import LangGraphClient
from worker_container import working

from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.errors import ProjectError, UnreadableValueError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.persistence.serializer import ProjectSerializer
from langgraph_serverless.settings import Settings

ROOT = Path(__file__).parent.parent.parent
PROJECT = ROOT / "tests" / "fixtures" / "projects" / "typed" / "langgraph.json"
SOURCES = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "functions").rglob("*.py")])

CANARY = """
from langgraph_canary_log import CALLS

CALLS.append("imported")

def call(*arguments, **named):
    CALLS.append("called")
    return "sung"

class Thing:
    def __init__(self, *arguments, **named):
        CALLS.append("made")

    @classmethod
    def parse(cls, *arguments, **named):
        CALLS.append("parsed")

    construct = model_construct = model_validate_json = parse
"""


class Canary:
    """``name`` is that of a module that nobody may import."""

    name = "langgraph_canary"

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    @property
    def silent(self) -> bool:
        return not self.calls and self.name not in sys.modules


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canary]:
    (tmp_path / "langgraph_canary.py").write_text(CANARY)
    (tmp_path / "langgraph_canary_log.py").write_text("CALLS = []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    calls = importlib.import_module("langgraph_canary_log").CALLS
    yield Canary(calls)
    for name in ("langgraph_canary", "langgraph_canary_log"):
        sys.modules.pop(name, None)


def targets(module: str) -> list[tuple[str, str, str]]:
    """Module, name and method: the canary's, and what is there to be called in any Python."""
    return [
        (module, "call", "parse"),
        (module, "Thing", "parse"),
        (module, "Thing", "construct"),
        ("builtins", "eval", "__call__"),
        ("os", "system", "__call__"),
        ("subprocess", "Popen", "communicate"),
        ("importlib", "import_module", "__call__"),
        # a class of the list, and a method of it that is not
        ("datetime", "datetime", "fromtimestamp"),
        ("pathlib", "Path", "read_text"),
    ]


def blobs(module: str) -> dict[str, bytes]:
    """A blob for each extension code and target, and each of them inside what is allowed."""
    made: dict[str, bytes] = {}
    code = f"__import__({module!r}).call()"
    for where, name, method in targets(module):
        arguments: dict[int, Any] = {0: code, 1: [code], 2: {"x": code}, 3: code, 4: {"x": code}, 5: {"x": code}}
        for extension, argument in arguments.items():
            content = _msgpack_enc([where, name, argument, method])
            made[f"{extension} {where}.{name}.{method}"] = ormsgpack.packb(ormsgpack.Ext(extension, content))
    whole = ormsgpack.Ext(0, _msgpack_enc([module, "call", 1]))
    made["6 numpy objects"] = ormsgpack.packb(
        ormsgpack.Ext(6, _msgpack_enc(["O", [1], "C", pickle.dumps(print)])),
    )
    made["7 delta"] = ormsgpack.packb(ormsgpack.Ext(7, ormsgpack.packb(whole)))
    made["in a list"] = ormsgpack.packb([{"deep": [whole]}])
    send = ormsgpack.packb(["langgraph.types", "Send", ["node", whole]])
    made["in a Send"] = ormsgpack.packb(ormsgpack.Ext(1, send))
    message = ormsgpack.packb(
        ["langchain_core.messages.human", "HumanMessage", {"content": "x", "extra": whole}, "model_validate_json"]
    )
    made["in a message"] = ormsgpack.packb(ormsgpack.Ext(5, message))
    made["a class that is no text"] = ormsgpack.packb(ormsgpack.Ext(0, _msgpack_enc([[module], "call", 1])))
    made["127 of nobody's"] = ormsgpack.packb(ormsgpack.Ext(127, _msgpack_enc([module, "call", 1])))
    return made


def documents(module: str) -> list[dict[str, Any]]:
    """What LangChain's and LangGraph's readers of JSON would make objects of."""
    return [
        {"lc": 2, "type": "constructor", "id": [module, "Thing"], "kwargs": {"x": 1}},
        {"lc": 2, "type": "constructor", "id": [module, "call"], "args": [1], "method": "parse"},
        {"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["true"]},
        {"lc": 1, "type": "constructor", "id": [module, "Thing"], "kwargs": {"x": 1}},
        {"lc": 1, "type": "constructor", "id": ["langchain_core", "prompts", "prompt", "PromptTemplate"], "kwargs": {}},
        {"lc": 1, "type": "secret", "id": ["PATH"]},
        {"lc": 1, "type": "not_implemented", "id": [module, "Thing"]},
        {"lc": 2, "type": "constructor", "id": "Thing"},
        {"lc": 2, "type": "constructor", "id": ["Thing"]},
    ]


def pickled(module: str) -> bytes:
    """Of an instruction to import the canary and to call it."""
    return b"c" + module.encode() + b"\ncall\n(tR."


# -- the serializer ---------------------------------------------------------------------------------------------------


def test_strict_whatever_the_environment_says() -> None:
    assert _msgpack.STRICT_MSGPACK_ENABLED
    script = (
        "import langgraph_serverless.containers.worker\n"
        "from langgraph.checkpoint.base import BaseCheckpointSaver\n"
        "from langgraph.cache.base import BaseCache\n"
        "print(BaseCheckpointSaver.serde._allowed_msgpack_modules, BaseCache.serde._allowed_msgpack_modules)"
    )
    environ = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "false"}
    said = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["None", "None"]


def test_no_blob_calls_anything(canary: Canary, figures: Figures) -> None:
    # what it is like without: the canaries can sing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_msgpack, "STRICT_MSGPACK_ENABLED", False)
        loose = JsonPlusSerializer(allowed_msgpack_modules=True)
        loose.loads_typed(("msgpack", blobs(canary.name)[f"0 {canary.name}.call.parse"]))
    assert canary.calls == ["imported", "called"]
    canary.calls.clear()
    del sys.modules[canary.name]

    crafted = blobs(canary.name)
    for serializer in (ProjectSerializer(), ProjectSerializer([("collections", "Counter")]), JsonPlusSerializer()):
        for about, blob in crafted.items():
            serializer.loads_typed(("msgpack", blob))
            assert canary.silent, about
    figures("S6 blobs", extension_codes=8, blobs=len(crafted), calls=len(canary.calls))


def test_documents_stay_documents(canary: Canary) -> None:
    for document in documents(canary.name):
        content = json.dumps({"deep": [document]}).encode()
        assert ProjectSerializer().loads_typed(("json", content)) == {"deep": [document]}
    assert canary.silent


def test_a_document_of_an_allowed_class_is_made() -> None:
    document = {"lc": 2, "type": "constructor", "id": ["collections", "OrderedDict"], "args": [[["a", 1]]]}
    content = json.dumps(document).encode()
    allowed = ProjectSerializer(allowed_json=[("collections", "OrderedDict")])
    assert allowed.loads_typed(("json", content)) == {"a": 1}
    message = {"lc": 2, "type": "constructor", "id": ["langchain_core", "messages", "human", "HumanMessage"]}
    found = ProjectSerializer().loads_typed(("json", json.dumps(message | {"kwargs": {"content": "hi"}}).encode()))
    assert found == HumanMessage("hi")


@pytest.mark.parametrize("kind", ["pickle", "dill", "", "msgpack+aes", "x" * 1000])
def test_no_other_kind_is_read(canary: Canary, kind: str) -> None:
    with pytest.raises(UnreadableValueError, match="is not read"):
        ProjectSerializer().loads_typed((kind, pickled(canary.name)))
    assert canary.silent


class Handle:
    """Nothing but pickle could write it."""


def test_what_only_pickle_could_write_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=rf"A value of the class {__name__}\.Handle cannot be kept in a checkpoint"):
        ProjectSerializer().dumps_typed({"deep": [Handle()]})


def test_what_langgraph_and_langchain_keep_comes_back() -> None:
    value = [
        HumanMessage("x", id="1"),
        Send("node", {"a": [1]}),
        Command(goto="b"),
        Interrupt("q", id="i"),
        {1, 2},
        b"x",
    ]
    serializer = ProjectSerializer()
    assert serializer.loads_typed(serializer.dumps_typed(value))[:4] == value[:4]


@dataclass
class Unnamed:
    x: int


def test_what_will_not_come_back_is_said_once_when_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    serializer = ProjectSerializer()
    for _ in range(2):
        written = serializer.dumps_typed([Unnamed(1)])
    said = [record.getMessage() for record in caplog.records if "Unnamed" in record.getMessage()]
    assert len(said) == 1
    assert "checkpointer.serde.allowed_msgpack_modules in langgraph.json allows it" in said[0]
    assert said[0].endswith(json.dumps([[__name__, "Unnamed"]]))
    assert serializer.loads_typed(written) == [{"x": 1}]
    assert sum("Unnamed" in record.getMessage() for record in caplog.records) == 1
    allowed = serializer.with_msgpack_allowlist([(__name__, "Unnamed")])
    assert allowed.loads_typed(written) == [Unnamed(1)]


# -- langgraph.json ---------------------------------------------------------------------------------------------------


def project_with(folder: Path, serde: Any) -> Path:
    (folder / "agent.py").write_text(
        "import enum\nfrom langgraph.graph import StateGraph\n"
        "class Mood(enum.Enum):\n    GLAD = 1\n"
        "def act(): ...\n"
        "graph = StateGraph(dict).add_node('n', lambda s: s).set_entry_point('n')\n"
    )
    config = folder / "langgraph.json"
    config.write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, "checkpointer": {"serde": serde}}))
    return config


@pytest.mark.parametrize(
    ("serde", "message"),
    [
        ([], "checkpointer.serde must be an object"),
        ({"pickle_fallback": True}, "pickle_fallback is not supported"),
        ({"pickle_fallback": "yes"}, "pickle_fallback is not supported"),
        ({"allowed_msgpack_modules": True}, "allowed_msgpack_modules cannot be true"),
        ({"allowed_json_modules": True}, "allowed_json_modules cannot be true"),
        ({"allowed_msgpack_modules": "a.B"}, "must be a list of classes"),
        ({"allowed_msgpack_modules": ["a.B"]}, '"a.B" must be a module and a name'),
        ({"allowed_msgpack_modules": [["B"]]}, "must be a module and a name"),
        ({"allowed_msgpack_modules": [["a", "*"]]}, "must be a module and a name"),
        ({"allowed_msgpack_modules": [["os", "system"]]}, "'os.system' is not a class"),
        ({"allowed_msgpack_modules": [["langgraph_project_agent", "act"]]}, "is not a class"),
        ({"allowed_msgpack_modules": [["langgraph_project_agent", "Moood"]]}, "has no 'Moood'"),
        ({"allowed_json_modules": [["no", "such", "module", "Thing"]]}, "importing 'no.such.module' failed"),
    ],
)
def test_what_may_not_be_allowed_is_refused_at_the_start(tmp_path: Path, serde: Any, message: str) -> None:
    with pytest.raises(ProjectError, match=message) as caught:
        GraphRegistry.load(read_project(project_with(tmp_path, serde)))
    assert "\n" not in str(caught.value)


def test_what_may_be_allowed(tmp_path: Path) -> None:
    serde = {
        "pickle_fallback": False,
        "allowed_msgpack_modules": [["langgraph_project_agent", "Mood"], ["collections", "abc", "Sized"]],
        "allowed_json_modules": [["collections", "Counter"]],
    }
    registry = GraphRegistry.load(read_project(project_with(tmp_path, serde)))
    assert registry.project.serde.msgpack == {("langgraph_project_agent", "Mood"), ("collections.abc", "Sized")}
    assert registry.project.serde.json == {("collections", "Counter")}
    nothing = read_project(project_with(tmp_path, {"allowed_msgpack_modules": None, "allowed_json_modules": None}))
    assert (nothing.serde.msgpack, nothing.serde.json) == (frozenset(), frozenset())


# -- a project, from its start to its database ------------------------------------------------------------------------


class Site:
    """An API and a worker on the project, in this process."""

    def __init__(self, state: StateContainer, worker: WorkerContainer, http: httpx.AsyncClient) -> None:
        self.state, self.worker = state, worker
        self.http, self.sdk = http, LangGraphClient(http)

    async def run(self, graph_id: str, thread_id: str, **options: Any) -> Any:
        """To its end or its interrupt; the thread's values, and its state's ``next``."""
        run = await self.sdk.runs.create(thread_id, graph_id, **options)
        async with working(self.worker):
            async with asyncio.timeout(60):
                await self.sdk.runs.join(thread_id, run["run_id"])
        ended = await self.sdk.runs.get(thread_id, run["run_id"])
        return ended["status"]

    async def rewrite(self, table: str, thread_id: str, kind: str, blob: bytes, channel: str) -> None:
        """What somebody who can write to the database could do."""
        async with self.state.database.connection() as connection:
            cursor = await connection.execute(
                f"UPDATE {table} SET type = %s, blob = %s WHERE thread_id = %s AND channel = %s",  # type: ignore[arg-type]
                (kind, blob, thread_id, channel),
            )
            assert cursor.rowcount > 0


@pytest.fixture(scope="module")
async def site(settings: Settings) -> AsyncIterator[Site]:
    registry = GraphRegistry.load(read_project(PROJECT))
    manifest = await build_manifest(registry)
    own = settings.replace(redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}", poll_interval=0.3)
    state = StateContainer(own, registry=registry, manifest=manifest)
    worker = WorkerContainer(own, registry=registry, manifest=manifest)
    await worker.assistants.ensure_defaults()
    transport = httpx.ASGITransport(create_app(state), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=60) as http:
        yield Site(state, worker, http)
    await worker.aclose()
    await state.aclose()


@pytest.fixture
async def thread_id(site: Site) -> str:
    thread = await site.sdk.threads.create()
    return str(thread["thread_id"])


async def test_the_classes_of_a_project_come_back(site: Site, thread_id: str) -> None:
    assert await site.run("typed", thread_id, input={}) == "success"
    state = await site.sdk.threads.get_state(thread_id)
    assert state["next"] == ["ask"]
    assert state["values"]["order"] == {"points": [{"x": 1, "mood": "glad"}]}  # type: ignore[call-overload]
    assert state["values"]["stray"] == {"deep": {"word": "b"}}  # type: ignore[call-overload]
    assert await site.run("typed", thread_id, command={"resume": 1}) == "success"
    thread = await site.sdk.threads.get(thread_id)
    assert thread["values"]["kinds"] == {  # type: ignore[call-overload, index]
        "order": "Point",
        "point": "Point",
        "mood": "Mood",
        "listed": "Listed",
        "stray": "dict",
        "pair": "Pair",
    }


@pytest.mark.parametrize(
    ("graph_id", "kinds"),
    [
        ("nested", {"inner": "Inner"}),
        ("built", {"late": "OfFactory"}),
        ("configured", {"late": "OfFactory"}),
        ("tasks", {"given": "OfTask"}),
    ],
    ids=["nested", "built", "configured", "tasks"],
)
async def test_those_of_subgraphs_factories_and_tasks_too(
    site: Site, thread_id: str, graph_id: str, kinds: dict[str, str]
) -> None:
    await site.run(graph_id, thread_id, input={})
    before = await site.http.get(f"/threads/{thread_id}/state", params={"subgraphs": "true"})
    assert before.status_code == 200, before.text
    assert await site.run(graph_id, thread_id, command={"resume": 1}) == "success"
    thread = await site.sdk.threads.get(thread_id)
    assert thread["values"]["kinds"] == kinds  # type: ignore[call-overload, index]


async def test_and_those_of_cached_nodes(site: Site) -> None:
    for _ in range(2):
        thread = await site.sdk.threads.create()
        await site.run("cached", thread["thread_id"], input={})
        values = (await site.sdk.threads.get(thread["thread_id"]))["values"]
        assert (values["kinds"], values["times"]) == ({"point": "Point"}, 1)  # type: ignore[call-overload, index]


async def test_a_schema_that_names_a_process_starts_none(site: Site) -> None:
    """Its own list of classes has those that can be written, and nothing else that schemas name."""
    command = [sys.executable, "-c", "pass"]
    blob = ormsgpack.packb(ormsgpack.Ext(0, _msgpack_enc(["subprocess", "Popen", command])))
    assert any((each.module, each.name) == ("subprocess", "Popen") for each in site.state.catalog.manifest.types)
    assert site.state.serializer.loads_typed(("msgpack", blob)) == command


async def test_crafted_rows_call_nothing(site: Site, thread_id: str, canary: Canary, figures: Figures) -> None:
    """Read by the state API, its history, and the worker that resumes the thread."""
    await site.run("typed", thread_id, input={})
    read = 0
    whole = ormsgpack.packb([ormsgpack.unpackb(blob, ext_hook=ormsgpack.Ext) for blob in blobs(canary.name).values()])
    crafted = [("msgpack", whole), ("json", json.dumps(documents(canary.name)).encode())]
    for table, channel in (("checkpoint_blobs", "stray"), ("checkpoint_writes", "__interrupt__")):
        for kind, blob in crafted:
            await site.rewrite(table, thread_id, kind, blob, channel)
            for path in ("state", "state?subgraphs=true", "history"):
                response = await site.http.get(f"/threads/{thread_id}/{path}")
                read += response.status_code == 200
                assert canary.silent, (table, kind, path)
            if table == "checkpoint_blobs":
                assert await site.run("typed", thread_id, command={"resume": 1}) in ("success", "error")
                assert canary.silent, (table, kind, "run")
                await site.run("typed", thread_id, input={})
    figures("S6 rows", rows=len(crafted) * 2, readings=read, calls=len(canary.calls))


@pytest.mark.parametrize("table", ["checkpoint_blobs", "checkpoint_writes"])
async def test_pickles_in_rows_are_an_error(site: Site, thread_id: str, canary: Canary, table: str) -> None:
    await site.run("typed", thread_id, input={})
    channel = "stray" if table == "checkpoint_blobs" else "__interrupt__"
    await site.rewrite(table, thread_id, "pickle", pickled(canary.name), channel)
    response = await site.http.get(f"/threads/{thread_id}/state")
    assert (response.status_code, response.json()) == (
        500,
        {"detail": "A stored value is of the kind 'pickle', which is not read."},
    )
    assert await site.run("typed", thread_id, command={"resume": 1}) == "error"
    assert canary.silent


async def test_items_of_the_store_call_nothing(site: Site, canary: Canary) -> None:
    for place, document in enumerate(documents(canary.name)):
        await site.sdk.store.put_item(["crafted"], str(place), {"value": document})
    store = await site.state.graph_store()
    for place, document in enumerate(documents(canary.name)):
        item = await store.aget(("crafted",), str(place))
        assert item is not None
        assert item.value == {"value": document}
        found = await site.sdk.store.get_item(["crafted"], str(place))
        assert found["value"] == {"value": document}
    assert canary.silent


# -- what is imported -------------------------------------------------------------------------------------------------

#: They make objects of bytes, and call what those say.
DANGEROUS = frozenset(
    {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "jsonpickle"}
)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
            yield node.func.id


def test_nothing_of_ours_imports_what_would_call() -> None:
    assert len(SOURCES) > 200
    found = {
        str(path.relative_to(ROOT)): names
        for path in SOURCES
        if (names := (DANGEROUS | {"eval", "exec"}).intersection(imported(ast.parse(path.read_bytes()))))
    }
    assert found == {}
