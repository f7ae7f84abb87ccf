"""Schemas, drawings and subgraphs, in the shapes recorded from the reference server; and the document around them."""

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from langgraph_serverless.containers.api import read_manifest
from langgraph_serverless.domain.manifest import FORMAT, LARGE, LARGEST, GraphManifest, Manifest, canonical, encode
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.introspection import (
    SCHEMA_NAMES,
    graph_drawing,
    graph_schemas,
    graph_subgraphs,
)
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.execution.project_files import hash_project
from langgraph_serverless.settings import Settings

REPOSITORY = Path(__file__).parent.parent.parent
KINDS = REPOSITORY / "tests" / "fixtures" / "projects" / "kinds" / "langgraph.json"


@pytest.fixture(scope="module", autouse=True)
def _imports_left_as_found() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(KINDS))


@pytest.fixture(scope="module")
def examples() -> GraphRegistry:
    return GraphRegistry.load(read_project(REPOSITORY / "examples" / "langgraph.json"))


@pytest.fixture(scope="module")
async def manifest(registry: GraphRegistry) -> Manifest:
    return await build_manifest(registry)


def test_state_schema_has_null_defaults_and_the_graphs_name(manifest: Manifest) -> None:
    schemas = manifest.graphs["compiled"].schemas
    assert schemas["state_schema"] == {
        "title": "compiled_state",
        "type": "object",
        "properties": {
            "text": {"default": None, "title": "Text", "type": "string"},
            "log": {"default": None, "title": "Log", "type": "array", "items": {"type": "string"}},
        },
    }
    assert schemas["input_schema"]["title"] == "State"
    assert tuple(schemas) == SCHEMA_NAMES


def test_config_schema_without_and_with_context(manifest: Manifest) -> None:
    plain = manifest.graphs["compiled"].schemas
    assert (plain["config_schema"], plain["context_schema"]) == ({}, None)
    schemas = manifest.graphs["context"].schemas
    assert schemas["config_schema"] == schemas["context_schema"]
    assert schemas["context_schema"]["title"] == "Ctx"


def test_functional_graph(manifest: Manifest) -> None:
    schemas = manifest.graphs["functional"].schemas
    assert schemas["input_schema"]["title"] == "functional_input"
    assert schemas["output_schema"]["title"] == "functional_output"
    assert schemas["state_schema"]["title"] == "functional_state"
    assert schemas["state_schema"]["properties"]["__end__"]["type"] == "string"


def test_a_type_without_schema_costs_its_part_only(manifest: Manifest) -> None:
    schemas = manifest.graphs["opaque"].schemas
    assert schemas["input_schema"] is None
    assert schemas["state_schema"]["properties"]["handle"] == {"default": None, "title": "Handle"}
    assert schemas["state_schema"]["properties"]["text"]["type"] == "string"


def test_drawing(manifest: Manifest) -> None:
    nodes: list[Any] = [
        {"id": "__start__", "type": "runnable", "data": {"name": "__start__"}},
        {"id": "child", "type": "runnable", "data": {"name": "child"}},
        {"id": "after", "type": "runnable", "data": {"name": "after"}, "metadata": {"__interrupt": "before"}},
        {"id": "__end__"},
    ]
    drawing = manifest.graphs["nested"].drawing(False)
    assert drawing["nodes"] == nodes
    assert {"source": "child", "target": "after", "conditional": True} in drawing["edges"]
    assert {"source": "__start__", "target": "child"} in drawing["edges"]


def test_xray(manifest: Manifest) -> None:
    def ids(xray: bool | int) -> list[str]:
        return sorted(node["id"] for node in manifest.graphs["nested"].drawing(xray)["nodes"])

    ends = ["__end__", "__start__", "after"]
    assert ids(1) == [*ends, "child:before", "child:grandchild"]
    assert ids(True) == ids(2) == ids(7) == [*ends, "child:before", "child:grandchild:leaf"]


async def test_tools_are_in_the_drawing(examples: GraphRegistry) -> None:
    async with examples.graph("chat_agent", access_context="assistants.read") as graph:
        drawing = await graph_drawing(graph, False)
    tools = next(node for node in drawing["nodes"] if node["id"] == "tools")
    assert tools["metadata"] == {"__tools": ["get_weather", "add", "remember"]}


@pytest.mark.parametrize(
    ("namespace", "recurse", "expected"),
    [
        (None, False, ["child"]),
        (None, True, ["child", "child|grandchild"]),
        ("child", False, ["child"]),
        ("child|grandchild", False, []),
        ("child|grandchild", True, ["child|grandchild"]),
        ("nope", True, []),
    ],
)
async def test_subgraphs_as_langgraph_finds_them(
    registry: GraphRegistry, manifest: Manifest, namespace: str | None, recurse: bool, expected: list[str]
) -> None:
    described = manifest.graphs["nested"].subgraphs_at(namespace, recurse=recurse)
    assert list(described) == expected
    async with registry.graph("nested", access_context="assistants.read") as graph:
        assert await graph_subgraphs(graph, namespace, recurse) == described


def test_subgraph_schemas(manifest: Manifest) -> None:
    child = manifest.graphs["nested"].subgraphs["child"]
    assert tuple(child) == SCHEMA_NAMES
    assert child["state_schema"]["title"] == "LangGraphState"


class Inexpressible:
    """Has no JSON Schema, and says so in two lines."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        raise TypeError("no schema for this\nread on at https://example.org")


async def test_schemas_that_cannot_be_made_are_none_with_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    state = TypedDict("state", {"value": Inexpressible})  # noqa: UP013
    graph = StateGraph(state).add_node("node", lambda _state: {}).add_edge(START, "node").compile()
    with caplog.at_level(logging.INFO):
        schemas = await graph_schemas(graph, "odd")
    assert (schemas["input_schema"], schemas["state_schema"]) == (None, None)
    assert [record.getMessage() for record in caplog.records] == [
        "graph odd: no input_schema, output_schema, state_schema: TypeError: no schema for this"
    ]


def test_factory_that_needs_a_config_is_described_as_empty(manifest: Manifest) -> None:
    described = manifest.graphs["needs_config"]
    assert described.is_factory
    assert described.schemas == dict.fromkeys(SCHEMA_NAMES)
    assert described.drawing(False) is None
    assert described.drawing(True) is None


async def test_factory_that_makes_no_graph_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "made_nothing.py").write_text("def graph(): return 3\n")
    (tmp_path / "langgraph.json").write_text('{"graphs": {"agent": "./made_nothing.py:graph"}}')
    with pytest.raises(ProjectError, match="object of type int"):
        await build_manifest(GraphRegistry.load(read_project(tmp_path / "langgraph.json")))


def test_json_and_back(manifest: Manifest) -> None:
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


async def test_hash_is_stable_and_follows_the_content(registry: GraphRegistry, manifest: Manifest) -> None:
    assert (await build_manifest(registry)).hash == manifest.hash == manifest.digest()
    reversed_graphs = dict(reversed(list(manifest.graphs.items())))
    assert replace(manifest, graphs=reversed_graphs).digest() == manifest.hash
    changed = GraphManifest.from_json({**manifest.graphs["compiled"].to_json(), "description": "Another."})
    others: list[dict[str, Any]] = [
        {"graphs": {**manifest.graphs, "compiled": changed}},
        {"project_hash": "another"},
        {"made_with": {**manifest.made_with, "langgraph": "9.9"}},
        {"types": ()},
    ]
    assert manifest.hash not in {replace(manifest, **other).digest() for other in others}


def test_says_what_it_was_made_with(manifest: Manifest) -> None:
    assert manifest.made_with["langgraph"] == version("langgraph")
    assert set(manifest.made_with) == {"langgraph-serverless", "langgraph", "langgraph-checkpoint", "langchain-core"}
    assert manifest.graphs["compiled"].name == "compiled"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "not a manifest"),
        ({}, "not a manifest"),
        ({"graphs": {}, "hash": "x"}, f"format 1, and this version reads format {FORMAT}: build the project again"),
        ({**Manifest.of({}).to_json(), "format": FORMAT + 1}, f"format {FORMAT + 1}"),
        ({key: value for key, value in Manifest.of({}).to_json().items() if key != "types"}, "'types' is missing"),
        ({**Manifest.of({}).to_json(), "graphs": {"a": {"graph_id": "a"}}}, "'name' is missing"),
        ({**Manifest.of({}).to_json(), "graphs": []}, "broken"),
    ],
)
def test_an_old_or_broken_one_says_what_to_do(document: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "langgraph_manifest.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ProjectError, match=says) as caught:
        read_manifest(Settings(database_uri="postgresql://nowhere", manifest_path=path))
    assert str(path) in str(caught.value)


def test_one_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "langgraph_manifest.json"
    path.write_text(canonical(Manifest.of({}).to_json())[:-5])
    with pytest.raises(ProjectError, match=r"langgraph_manifest\.json cannot be read"):
        read_manifest(Settings(database_uri="postgresql://nowhere", manifest_path=path))


def test_a_large_one_is_warned_of_and_a_huge_one_refused(caplog: pytest.LogCaptureFixture) -> None:
    def holding(characters: int) -> Manifest:
        schemas = {"input_schema": "x" * characters}
        return Manifest.of(
            {
                "wide": GraphManifest(
                    graph_id="wide", description=None, is_factory=False, schemas=schemas, drawings={}, subgraphs={}
                )
            }
        )

    encode(holding(LARGE // 2))
    assert not caplog.records
    assert Manifest.from_json(json.loads(encode(holding(LARGE)))) == holding(LARGE)
    assert "wide (1.0 MB)" in caplog.text
    with pytest.raises(ProjectError, match="At most 8 MB"):
        encode(holding(LARGEST))


async def test_that_of_the_examples_is_small(examples: GraphRegistry) -> None:
    assert len(encode(await build_manifest(examples))) < 100_000


# -- the project's files -----------------------------------------------------------------------------------------------


def _project(root: Path) -> Path:
    for name, text in {
        "app/langgraph.json": '{"graphs": {"a": "./a.py:graph"}, "dependencies": [".", "../lib"], "env": ".env"}',
        "app/.env": "TOKEN=first\n",
        "app/a.py": "graph = 1\n",
        "app/data/prompt.txt": "Be brief.\n",
        "app/.git/HEAD": "ref",
        "app/venv-of-mine/pyvenv.cfg": "",
        "lib/rules.py": "RULE = 1\n",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "app" / "langgraph.json"


@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("app/a.py", "graph = 2\n", True),
        ("app/data/prompt.txt", "Be wordy.\n", True),
        ("app/data/another.txt", "", True),
        ("lib/rules.py", "RULE = 2\n", True),
        (
            "app/langgraph.json",
            '{"graphs": {"b": "./a.py:graph"}, "dependencies": [".", "../lib"], "env": ".env"}',
            True,
        ),
        ("app/.env", "TOKEN=first\nANOTHER=x\n", True),
        # shown in logs, so it must not tell anything of a secret
        ("app/.env", "TOKEN=second\n", False),
        ("app/.git/HEAD", "another", False),
        ("app/venv-of-mine/lib.py", "1", False),
        ("app/__pycache__/a.pyc", "1", False),
        ("app/out/api/langgraph_manifest.json", "{}", False),
        ("app/out/api/langgraph_serverless/another.py", "{}", False),
        ("app/langgraph_manifest.json", "{}", False),
    ],
)
def test_the_hash_of_a_project_covers_what_is_deployed(tmp_path: Path, name: str, text: str, changes: bool) -> None:
    first, second = _project(tmp_path / "here"), _project(tmp_path / "elsewhere")
    before = hash_project(read_project(first))
    assert hash_project(read_project(second)) == before
    path = tmp_path / "elsewhere" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if name.startswith("app/out"):  # where a build has been written to
        (tmp_path / "elsewhere/app/out/build.json").touch()
        (tmp_path / "elsewhere/app/out/api/langgraph_manifest.json").touch()
    assert (hash_project(read_project(second)) != before) is changes


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    config = _project(tmp_path)
    (config.parent / "data" / "up").symlink_to(config.parent)
    assert hash_project(read_project(config))


def test_factories_are_described_with_an_empty_config(manifest: Manifest) -> None:
    drawing = manifest.graphs["config"].drawing(False)
    assert "plain" in [node["id"] for node in drawing["nodes"]]
    assert manifest.graphs["compiled"].description == "A compiled graph."
    assert not manifest.graphs["compiled"].is_factory
