"""The section ``store`` of langgraph.json, and the embedding that it names."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from langgraph.store.base import embed as langgraph_embed
from langgraph.store.base import ensure_embeddings

from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.store import Condition, StoreIndex, StoreSettings, StoreTtl, conditions
from langgraph_serverless.errors import BadRequestError, EmbeddingError, InvalidInputError, ProjectError
from langgraph_serverless.execution.embeddings import ProjectEmbedder
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import ProjectConfig, read_project

GRAPH = """
from langgraph.graph import START, StateGraph
graph = StateGraph(dict).add_node("node", lambda state: state).add_edge(START, "node").compile()
"""
EMBED = """
from langchain_core.embeddings import Embeddings
def embed(texts): return [[float(len(text)), 1.0] for text in texts]
async def embed_async(texts): return [[float(len(text)), 1.0] for text in texts]
class Embedder:
    async def __call__(self, texts): return [[float(len(text)), 1.0] for text in texts]
embedder = Embedder()
class Model(Embeddings):
    def embed_documents(self, texts): return embed(texts)
    def embed_query(self, text): return embed([text])[0]
model = Model()
number = 3
"""


def project(root: Path, store: Any) -> ProjectConfig:
    (root / "agent.py").write_text(GRAPH)
    (root / "embed.py").write_text(EMBED)
    (root / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, "store": store}))
    return read_project(root / "langgraph.json")


def indexed(root: Path, embed: str) -> ProjectConfig:
    return project(root, {"index": {"dims": 2, "embed": embed}})


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ({}, StoreSettings()),
        ({"index": None, "ttl": None}, StoreSettings()),
        (
            {"index": {"dims": 8, "embed": "openai:small"}},
            StoreSettings(index=StoreIndex(dims=8, embed="openai:small", fields=("$",))),
        ),
        (
            {"index": {"dims": 8, "embed": "./embed.py:embed", "fields": ["text", "a.b[*]", "text"]}},
            StoreSettings(index=StoreIndex(dims=8, embed="./embed.py:embed", fields=("text", "a.b[*]"))),
        ),
        ({"ttl": {}}, StoreSettings(ttl=StoreTtl(default_ttl=None, refresh_on_read=True))),
        (
            {"ttl": {"default_ttl": 0.5, "refresh_on_read": False, "sweep_interval_minutes": 10}},
            StoreSettings(ttl=StoreTtl(default_ttl=0.5, refresh_on_read=False, sweep_interval_minutes=10)),
        ),
    ],
)
def test_what_the_section_says(tmp_path: Path, section: Any, settings: StoreSettings) -> None:
    config = project(tmp_path, section)
    assert config.store_settings == settings
    manifest = Manifest.of({}, store=settings)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    assert (manifest.hash == Manifest.of({}).hash) == (settings == StoreSettings())


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"index": 1}, "'store.index' must be an object"),
        ({"ttl": []}, "'store.ttl' must be an object"),
        ({"index": {"embed": "openai:small"}}, "store.index.dims must be a whole number"),
        ({"index": {"dims": 0, "embed": "openai:small"}}, "store.index.dims must be a whole number"),
        ({"index": {"dims": True, "embed": "openai:small"}}, "store.index.dims must be a whole number"),
        ({"index": {"dims": 20000, "embed": "openai:small"}}, "from 1 to 16000"),
        ({"index": {"dims": 8}}, "store.index.embed must be"),
        ({"index": {"dims": 8, "embed": 3}}, "store.index.embed must be"),
        ({"index": {"dims": 8, "embed": "a:b", "fields": [1]}}, "store.index.fields must be a list of paths"),
        ({"ttl": {"default_ttl": "1"}}, "store.ttl.default_ttl must be a number of minutes"),
        ({"ttl": {"default_ttl": 0}}, "store.ttl.default_ttl must be more than 0"),
        ({"ttl": {"sweep_interval_minutes": -1}}, "store.ttl.sweep_interval_minutes must be more than 0"),
        ({"ttl": {"refresh_on_read": "no"}}, "store.ttl.refresh_on_read must be true or false"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, section: Any, problem: str) -> None:
    with pytest.raises(ProjectError) as refused:
        project(tmp_path, section)
    assert problem in str(refused.value)
    assert str(tmp_path / "langgraph.json") in str(refused.value)


def test_what_nobody_knows_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    section = {
        "index": {"dims": 2, "embed": "./embed.py:embed", "distance": "l2"},
        "ttl": {"x": 1},
    }
    with caplog.at_level(logging.WARNING):
        GraphRegistry.load(project(tmp_path, section))
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "ignoring the unknown key 'store.index.distance'" in told
    assert "ignoring the unknown key 'store.ttl.x'" in told
    caplog.clear()
    GraphRegistry.load(project(tmp_path, {"ttl": {"default_ttl": 1}}))
    assert caplog.records == []


@pytest.mark.parametrize(
    "embed",
    [
        "./embed.py:embed",
        "./embed.py:embed_async",
        "./embed.py:embedder",
        "./embed.py:model",
        "vectors_here.some:embed",
    ],
)
async def test_what_may_embed(tmp_path: Path, embed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "vectors_here").mkdir()
    (tmp_path / "vectors_here" / "some.py").write_text(EMBED)
    registry = GraphRegistry.load(indexed(tmp_path, embed))
    embedder = ProjectEmbedder.of(registry.project)
    sys.modules.pop("vectors_here.some", None)
    sys.modules.pop("vectors_here", None)
    assert embedder is not None
    first, second = await embedder.embed(["a", "bcd"])
    assert len(first) == len(second) == 2
    assert await embedder.embed_query("bcd") == second
    assert await embedder.embed([]) == []


@pytest.mark.parametrize(
    ("embed", "problem"),
    [
        ("./embed.py:nothing", "has no 'nothing'"),
        ("./missing.py:embed", "does not exist"),
        ("./embed.py:number", "is of type int; it must be a function"),
        ("./embed.py:Embedder", "is of type type; it must be a function"),
        ("no_such.module:embed", "importing 'no_such.module:embed' failed"),
        ("openai:text-embedding-3-small", "is opened by langchain, which is not installed; add 'langchain'"),
        ("bedrock:amazon.titan-embed-text-v2:0", "is opened by langchain"),
        ("nowhere", "is opened by langchain"),
    ],
)
def test_what_may_not(tmp_path: Path, embed: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "langchain", None)
    with pytest.raises(ProjectError) as refused:
        GraphRegistry.load(indexed(tmp_path, embed))
    assert problem in str(refused.value)
    assert "store.index.embed" in str(refused.value)


@pytest.fixture
def langchain(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The project's langchain, of which one function is used."""
    package, embeddings = ModuleType("langchain"), ModuleType("langchain.embeddings")
    package.__spec__ = embeddings.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("langchain", None)
    monkeypatch.setitem(sys.modules, "langchain", package)
    monkeypatch.setitem(sys.modules, "langchain.embeddings", embeddings)
    # it remembers what it has found
    langgraph_embed._get_init_embeddings.cache_clear()
    yield embeddings
    langgraph_embed._get_init_embeddings.cache_clear()


async def test_a_provider_is_opened_by_langchain(tmp_path: Path, langchain: Any) -> None:
    asked = []

    def init_embeddings(model: str) -> Any:
        asked.append(model)
        return ensure_embeddings(lambda texts: [[1.0, 2.0] for _ in texts])

    langchain.init_embeddings = init_embeddings
    registry = GraphRegistry.load(indexed(tmp_path, "openai:text-embedding-3-small"))
    assert asked == []  # it may want a key that only the deployment has
    embedder = ProjectEmbedder.of(registry.project)
    assert embedder is not None
    assert len(await embedder.embed_query("x")) == 2
    assert asked == ["openai:text-embedding-3-small"]


def test_a_provider_that_cannot_be_opened_says_why(tmp_path: Path, langchain: Any) -> None:
    def init_embeddings(model: str) -> Any:
        raise ImportError("Could not import langchain_openai.\nPlease install it.")

    langchain.init_embeddings = init_embeddings
    registry = GraphRegistry.load(indexed(tmp_path, "openai:text-embedding-3-small"))
    with pytest.raises(ProjectError) as refused:
        ProjectEmbedder.of(registry.project)
    assert "'openai:text-embedding-3-small' cannot be opened: ImportError: Could not import" in str(refused.value)
    assert "\n" not in str(refused.value)


def embedder(function: Any, *fields: str, timeout: float = 5) -> ProjectEmbedder:
    index = StoreIndex(dims=2, embed="./embed.py:embed", fields=fields or ("$",))
    return ProjectEmbedder(index, ensure_embeddings(function), timeout=timeout)


@pytest.mark.parametrize(
    ("paths", "texts"),
    [
        (None, [("text", "red"), ("notes[*].0", "a"), ("notes[*].1", "b")]),
        ([], []),
        (["$"], [("$", '{"n": 1, "notes": ["a", "b"], "o": {"x": "deep"}, "text": "red"}')]),
        (["o.x"], [("o.x", "deep")]),
        (["{text,n}"], [("{text,n}.0", "red"), ("{text,n}.1", "1")]),
        (["notes[-1]", "missing", "text", "text"], [("notes[-1]", "b"), ("text", "red")]),
    ],
)
def test_paths_are_langgraphs(paths: list[str] | None, texts: list[tuple[str, str]]) -> None:
    value = {"text": "red", "n": 1, "notes": ["a", "b"], "o": {"x": "deep"}}
    assert embedder(lambda _: [], "text", "notes[*]").texts(value, paths) == texts


def test_paths_that_lead_to_too_much_are_refused() -> None:
    paths = [f"{{text{' ' * spaces}}}" for spaces in range(30)]
    with pytest.raises(InvalidInputError, match="'index' leads to more than"):
        embedder(lambda _: []).texts({"text": "x" * 1_000_000}, paths)
    with pytest.raises(InvalidInputError, match="'index' leads to more than"):
        embedder(lambda _: []).texts({"text": ["x"] * 2000}, ["text[*]"])


async def test_an_embedding_that_does_not_answer_is_given_up() -> None:
    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    with pytest.raises(EmbeddingError, match=r"has not answered within 0\.01 seconds"):
        await embedder(never, timeout=0.01).embed(["x"])


async def test_what_the_embedding_says_is_for_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    async def leaks(_: Any) -> Any:
        raise RuntimeError("key sk-123")

    with pytest.raises(EmbeddingError) as failed:
        await embedder(leaks).embed_query("x")
    assert str(failed.value) == "The embedding './embed.py:embed' of the store's index failed: RuntimeError"
    assert failed.value.status == 502
    assert "sk-123" in caplog.text


def test_filters_are_taken_apart() -> None:
    assert conditions({"a": 1, "b": {"$gt": 1, "$lt": 2}, "c": {"d": {"$ne": None}, "e": [1]}}) == [
        Condition(path=("a",), operator="$eq", operand=1),
        Condition(path=("b",), operator="$gt", operand=1),
        Condition(path=("b",), operator="$lt", operand=2),
        Condition(path=("c",), operator="object"),
        Condition(path=("c", "d"), operator="$ne", operand=None),
        Condition(path=("c", "e"), operator="$eq", operand=[1]),
    ]
    for wrong in ({"a": {"$in": [1]}}, {"a": {"$gt": 1, "b": 2}}, {"a": {"b": {"$x": 1}}}):
        with pytest.raises(BadRequestError, match="Unsupported operator"):
            conditions(wrong)
