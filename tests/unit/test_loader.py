"""Importing a project's graphs: every kind of graph and factory, and one sentence for each failure."""

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel
from langgraph.store.memory import InMemoryStore

from langgraph_serverless.domain.users import User
from langgraph_serverless.errors import GraphNotFoundError, ProjectError
from langgraph_serverless.execution.factories import Factory, Use
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.modules import load_object
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.loopback import on_behalf_of, on_whose_behalf

REPOSITORY = Path(__file__).parent.parent.parent
PROJECTS = REPOSITORY / "tests" / "fixtures" / "projects"


@pytest.fixture(scope="module", autouse=True)
def _imports_left_as_found() -> Iterator[None]:
    """Loading a project changes sys.path and sys.modules, as it must; other tests should not see it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if str(PROJECTS) in origin or "/test_loader" in origin or name.startswith("langgraph_project_"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECTS / "kinds" / "langgraph.json"))


@pytest.fixture
def events(registry: GraphRegistry) -> list[str]:
    """What the factories of the project `kinds` have been through."""
    recorded: list[str] = load_object(registry.project, "./factories.py:EVENTS", key="test")
    recorded.clear()
    return recorded


async def log_of(registry: GraphRegistry, graph_id: str, **use: Any) -> list[str]:
    async with registry.graph(graph_id, access_context="threads.create_run", **use) as graph:
        return (await graph.ainvoke({"text": "", "log": []}))["log"]


# Graphs


@pytest.mark.parametrize("graph_id", ["compiled", "uncompiled", "by_module", "named"])
async def test_state_graphs(registry: GraphRegistry, graph_id: str) -> None:
    assert await log_of(registry, graph_id) == ["work"]
    assert not registry.is_factory(graph_id)


async def test_functional_graph(registry: GraphRegistry) -> None:
    async with registry.graph("functional", access_context="threads.create_run") as graph:
        assert await graph.ainvoke(["a", "b"]) == "a b"
    assert not registry.is_factory("functional")


async def test_a_use_gets_a_copy_with_our_checkpointer_and_store(registry: GraphRegistry) -> None:
    checkpointer, store = InMemorySaver(), InMemoryStore()
    async with registry.graph(
        "compiled", access_context="threads.read", checkpointer=checkpointer, store=store
    ) as graph:
        assert graph.checkpointer is checkpointer
        assert graph.store is store
    async with registry.graph("compiled", access_context="threads.read") as other:
        assert other is not graph
        assert other.checkpointer is None
        assert other.store is None


async def test_our_checkpointer_replaces_the_users(tmp_path: Path) -> None:
    (tmp_path / "own_saver.py").write_text(
        "from langgraph.checkpoint.memory import InMemorySaver\n"
        "from langgraph.graph import StateGraph\n"
        "graph = StateGraph(dict).add_node('n', lambda s: s).set_entry_point('n').compile(checkpointer=InMemorySaver())\n"
    )
    registry = load(tmp_path, "./own_saver.py:graph")
    ours = InMemorySaver()
    async with registry.graph("agent", access_context="threads.read", checkpointer=ours) as graph:
        assert graph.checkpointer is ours


async def test_default_name_becomes_the_graph_id(registry: GraphRegistry) -> None:
    async with registry.graph("compiled", access_context="threads.read") as graph:
        assert graph.get_name() == "compiled"
    async with registry.graph("named", access_context="threads.read") as graph:
        assert graph.get_name() == "my_own_name"


def test_ids_and_descriptions(registry: GraphRegistry) -> None:
    assert registry.graph_ids[:3] == ("uncompiled", "compiled", "named")
    assert registry.descriptions["compiled"] == "A compiled graph."
    assert registry.descriptions["named"] is None


async def test_a_factory_works_for_the_user_of_its_graph() -> None:
    """What it asks by ``get_client()`` is asked as that user, and what runs beside it is not."""
    seen = []

    @asynccontextmanager
    async def make(config: dict[str, Any]) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        seen.append(on_whose_behalf())
        yield "graph"

    factory, user = Factory(make, key="graphs.a"), User({"identity": "alice"})
    async with factory.open(Use(access_context="threads.read", user=user)):
        seen.append(on_whose_behalf())
    async with factory.open(Use(access_context="threads.read")):
        pass
    with on_behalf_of(user):  # a run's last look at its state says nothing of the user
        async with factory.open(Use(access_context="threads.read")):
            pass
    assert seen == [user, None, None, user]


async def test_unknown_graph(registry: GraphRegistry) -> None:
    with pytest.raises(GraphNotFoundError, match="'nope'"):
        async with registry.graph("nope", access_context="threads.read"):
            pass
    with pytest.raises(GraphNotFoundError):
        registry.is_factory("nope")


# Factories


@pytest.mark.parametrize("graph_id", ["config", "any_name", "asynchronous", "instance"])
async def test_factories_that_take_a_config(registry: GraphRegistry, graph_id: str) -> None:
    assert registry.is_factory(graph_id)
    assert await log_of(registry, graph_id) == ["plain"]
    assert await log_of(registry, graph_id, config={"configurable": {"node": "mine"}}) == ["mine"]


async def test_factory_is_called_anew_for_every_use(registry: GraphRegistry, events: list[str]) -> None:
    await log_of(registry, "nothing")
    await log_of(registry, "nothing")
    assert events == ["nothing", "nothing"]


async def test_a_factory_cannot_change_the_callers_config(registry: GraphRegistry) -> None:
    config: dict[str, Any] = {"tags": ["t"]}
    await log_of(registry, "config", config=config)
    assert config == {"tags": ["t"]}


async def test_sync_context_manager(registry: GraphRegistry, events: list[str]) -> None:
    async with registry.graph("sync_manager", access_context="threads.read") as graph:
        assert isinstance(graph, Pregel)
        assert events == ["enter"]
    assert events == ["enter", "exit"]


async def test_context_manager_is_left_when_the_use_fails(registry: GraphRegistry, events: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with registry.graph("sync_manager", access_context="threads.read"):
            raise ZeroDivisionError
    assert events == ["enter", "exit"]


async def test_a_context_manager_cannot_swallow_a_failure(registry: GraphRegistry, events: list[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with registry.graph("swallowing", access_context="threads.read"):
            raise ZeroDivisionError
    assert events == ["swallowed"]


async def test_async_context_manager_with_execution_runtime(registry: GraphRegistry, events: list[str]) -> None:
    # The dict became the dataclass in ServerRuntime[Ctx].
    assert await log_of(registry, "async_manager", context={"model": "big"}) == ["big"]
    assert events == ["enter threads.create_run", "exit"]


@pytest.mark.parametrize("access_context", ["threads.read", "threads.update", "assistants.read"])
async def test_async_context_manager_with_read_runtime(
    registry: GraphRegistry, events: list[str], access_context: Any
) -> None:
    config = {"configurable": {"node": "fromconfig"}}
    async with registry.graph("async_manager", access_context=access_context, config=config) as graph:
        assert "fromconfig" in graph.nodes
    assert events == [f"enter {access_context}", "exit"]


async def test_runtime_by_name_and_by_optional_annotation(registry: GraphRegistry, events: list[str]) -> None:
    async with registry.graph("returns_manager", access_context="threads.read"):
        pass
    async with registry.graph("coroutine_of_manager", access_context="threads.read", store=InMemoryStore()):
        pass
    assert events == ["_ReadRuntime", "InMemoryStore"]


async def test_string_annotations(registry: GraphRegistry) -> None:
    assert await log_of(registry, "resolvable") == ["_ExecutionRuntime"]
    assert await log_of(registry, "unresolvable", config={"configurable": {"node": "x"}}) == ["x_threads.create_run"]


async def test_sync_factory_runs_on_the_callers_loop_with_its_context_variables(tmp_path: Path) -> None:
    (tmp_path / "loopy.py").write_text(
        "import asyncio, contextvars\n"
        "from langgraph.graph import StateGraph\n"
        "var = contextvars.ContextVar('var', default='unset')\n"
        "def make():\n"
        "    asyncio.get_running_loop()\n"
        "    var.set('set')\n"
        "    return StateGraph(dict).add_node('n', lambda s: s).set_entry_point('n')\n"
    )
    registry = load(tmp_path, "./loopy.py:make")
    variable = load_object(registry.project, "./loopy.py:var", key="test")
    async with registry.graph("agent", access_context="threads.create_run"):
        assert variable.get() == "set"


async def test_uses_at_the_same_time_do_not_meet(registry: GraphRegistry) -> None:
    nodes = [f"n{number}" for number in range(20)]
    logs = await asyncio.gather(*(log_of(registry, "config", config={"configurable": {"node": n}}) for n in nodes))
    assert logs == [[node] for node in nodes]


# Imports


def load(root: Path, target: str, **keys: Any) -> GraphRegistry:
    config = root / "langgraph.json"
    config.write_text(json.dumps({"graphs": {"agent": target}, **keys}))
    return GraphRegistry.load(read_project(config))


def in_a_new_process(config: Path, code: str, cwd: Path = REPOSITORY) -> str:
    """Run `code` with `registry` loaded from `config`, in a process that has imported nothing of the project."""
    script = (
        "import asyncio, os, sys\nfrom pathlib import Path\n"
        "import langgraph_serverless\n"
        "from langgraph_serverless.execution.loader import GraphRegistry\n"
        "from langgraph_serverless.execution.project import read_project\n"
        f"project = read_project(Path({str(config)!r}))\nproject.apply_env(os.environ)\n"
        "async def invoke(graph_id):\n"
        "    async with registry.graph(graph_id, access_context='threads.create_run') as graph:\n"
        "        return await graph.ainvoke({})\n" + code
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("cwd", ["repository", "elsewhere"])
def test_a_project_may_own_packages_called_like_ours(cwd: str, tmp_path: Path) -> None:
    # A folder as ours on AWS: regular packages, on the path and imported before the project is loaded.
    for name in ("core", "functions", "infra", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("NAME = 'ours'")
    said = in_a_new_process(
        PROJECTS / "packages" / "langgraph.json",
        "import core, functions, tests\n"
        "registry = GraphRegistry.load(project)\nprint(asyncio.run(invoke('agent'))['names'])\n",
        cwd=REPOSITORY if cwd == "repository" else tmp_path,
    )
    assert said == "['user core', 'user functions', 'user infra', 'user tests', 'user utils']"


def test_src_layout_and_dotenv() -> None:
    said = in_a_new_process(
        PROJECTS / "src_layout" / "langgraph.json",
        "registry = GraphRegistry.load(project)\n"
        "print(asyncio.run(invoke('weather')), asyncio.run(invoke('same_file')))\n"
        "print([name for name in sys.modules if name.endswith('graph') and 'weather' in name])\n",
    )
    # by module and by file: one module
    assert said == "{'city': 'Oslo'} {'city': 'Oslo'}\n['weather_agent.graph']"


def test_dependency_beside_the_project() -> None:
    said = in_a_new_process(
        PROJECTS / "monorepo" / "apps" / "agent" / "langgraph.json",
        "registry = GraphRegistry.load(project)\nprint(asyncio.run(invoke('agent')))\n",
    )
    assert said == "{'text': 'hello from the monorepo'}"


def test_a_loose_file_is_imported_once_under_a_name_that_survives_a_move(tmp_path: Path) -> None:
    source = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from langgraph.graph import StateGraph\n"
        "@dataclass\nclass State:\n    text: str = ''\n    later: Later | None = None\n"
        "@dataclass\nclass Later:\n    n: int = 0\n"
        "state = State('x')\n"
        "graph = StateGraph(State).add_node('n', lambda s: {}).set_entry_point('n')\n"
    )
    names = []
    for place in ("here", "there"):
        root = tmp_path / place
        (root / "my-agents").mkdir(parents=True)
        (root / "my-agents" / "agent_one.py").write_text(source)
        registry = load(root, "./my-agents/agent_one.py:graph")
        state = load_object(registry.project, "./my-agents/agent_one.py:state", key="test")
        assert pickle.loads(pickle.dumps(state)) == state
        names.append(type(state).__module__)
    assert names == ["langgraph_project_my_2d_agents_2f_agent__one"] * 2


# Failures


def failure(root: Path, target: str, **keys: Any) -> str:
    with pytest.raises(ProjectError) as caught:
        load(root, target, **keys)
    message = str(caught.value)
    assert "graphs.agent" in message
    assert "\n" not in message
    return message


def test_import_error_names_file_line_class_and_message(tmp_path: Path) -> None:
    (tmp_path / "deep_a.py").write_text("\n\nimport no_such_module_xyz\n")
    (tmp_path / "top_a.py").write_text("import deep_a\n")
    message = failure(tmp_path, "./top_a.py:graph")
    assert "deep_a.py, line 3 (import no_such_module_xyz)" in message
    assert "ModuleNotFoundError: No module named 'no_such_module_xyz'" in message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\ny = (1 +\n", "bad.py, line 2: SyntaxError: '(' was never closed"),
        ("raise SystemExit(3)\n", "bad.py, line 1 (raise SystemExit(3)): SystemExit: 3"),
        ("\nint('x')\n", "bad.py, line 2 (int('x')): ValueError: invalid literal"),
        ("import os\nos.environ['LGS_UNSET']\n", "bad.py, line 2 (os.environ['LGS_UNSET']): KeyError: 'LGS_UNSET'"),
        ("from . import sibling\n", "ImportError: attempted relative import with no known parent package"),
    ],
)
def test_failing_module(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "bad.py").write_text(source)
    assert expected in failure(tmp_path, "./bad.py:graph")


def test_the_cause_is_kept(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(ProjectError) as caught:
        load(tmp_path, "./bad.py:graph")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_failed_module_is_not_left_behind(tmp_path: Path) -> None:
    (tmp_path / "flaky.py").write_text("1 / 0\n")
    failure(tmp_path, "./flaky.py:graph")
    (tmp_path / "flaky.py").write_text("def graph(): ...\n")
    assert load(tmp_path, "./flaky.py:graph").is_factory("agent")


def test_missing_module(tmp_path: Path) -> None:
    assert "No module named 'no_such_pkg'" in failure(tmp_path, "no_such_pkg.agent:graph")


def test_missing_attribute_with_near_matches(tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text("grahp = my_graph = None\n")
    assert "has no 'graph'; did you mean 'grahp' or 'my_graph'?" in failure(tmp_path, "./near.py:graph")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("graph = 3", "is an object of type int, not a graph"),
        ("class graph: ...", "is the class graph, not a graph"),
        ("def graph(a, b): ...", "parameter 'a' cannot be filled"),
        (
            "from langgraph.graph import StateGraph\ngraph = StateGraph(dict).add_node('n', lambda s: s)",
            "the graph cannot be compiled: ValueError",
        ),
    ],
)
def test_wrong_kind_of_object(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "wrong.py").write_text(source + "\n")
    assert expected in failure(tmp_path, "./wrong.py:graph")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def graph(): return 3", "the factory made an object of type int"),
        ("def graph(): yield 3", "bare generator"),
        ("async def graph(): yield 3", "bare generator"),
    ],
)
async def test_wrong_product_of_a_factory(tmp_path: Path, source: str, expected: str) -> None:
    (tmp_path / "made.py").write_text(source + "\n")
    registry = load(tmp_path, "./made.py:graph")
    with pytest.raises(ProjectError, match=expected):
        async with registry.graph("agent", access_context="threads.create_run"):
            pass


async def test_a_factorys_own_error_passes_as_it_is(registry: GraphRegistry) -> None:
    with pytest.raises(KeyError, match="must_be_there"):
        async with registry.graph("needs_config", access_context="threads.create_run"):
            pass


def test_a_package_hidden_by_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "langgraph_serverless").mkdir()
    (tmp_path / "langgraph_serverless" / "__init__.py").touch()
    (tmp_path / "langgraph_serverless" / "errors.py").write_text("graph = None\n")
    assert "is hidden by" in failure(tmp_path, "./langgraph_serverless/errors.py:graph")


def test_unknown_keys_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "fine.py").write_text("def graph(): ...\n")
    load(tmp_path, "./fine.py:graph", surprise=1, dependancies=[])
    assert "ignoring the unknown key 'surprise'\n" in caplog.text
    assert "ignoring the unknown key 'dependancies'; did you mean 'dependencies'?" in caplog.text


@pytest.mark.parametrize(
    ("key", "section"),
    [(key, section) for key in ("auth", "encryption") for section in ({"path": 1}, {"path": "./missing.py:e"})]
    + [("encryption", {})],
)
def test_a_section_that_protects_a_project_is_never_passed_over(tmp_path: Path, key: str, section: Any) -> None:
    (tmp_path / "graphs.py").write_text("raise AssertionError('must not be imported')")
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": {"g": "./graphs.py:g"}, key: section}))
    with pytest.raises(ProjectError, match=rf"{key}\.path"):
        read_project(config)


def test_sections_without_effect_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "graphs.py").write_text(
        "from langgraph.graph import StateGraph, START\n"
        "g = StateGraph(dict).add_node('n', lambda s: s).add_edge(START, 'n')\n"
    )
    config = tmp_path / "langgraph.json"
    sections = {"ui": {"card": "./card.tsx"}, "api_version": "0.8", "webhooks": {"env_prefix": "X_"}}
    config.write_text(json.dumps({"dependencies": ["."], "graphs": {"g": "./graphs.py:g"}, **sections}))
    GraphRegistry.load(read_project(config))
    assert "no effect here: ui, api_version\n" in caplog.text
