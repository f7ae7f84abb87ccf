"""langgraph.json: what is read from it, and one sentence for each way in which it can be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.domain.auth_settings import AuthSettings
from langgraph_serverless.domain.http_settings import HttpSettings
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig, read_project

PROJECTS = Path(__file__).parent.parent / "fixtures" / "projects"
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with one graph file; there is another file beside the folder, where nothing may reach."""
    (tmp_path / "outside.py").write_text("graph = None")
    (tmp_path / "outside.env").write_text("A=1")
    root = tmp_path / "project"
    (root / "sub").mkdir(parents=True)
    for name in ("agent", "app", "auth"):
        (root / f"{name}.py").write_text("graph = app = auth = None")
    (root / "sub" / "agent.py").write_text("graph = None")
    return root


def read(root: Path, **keys: Any) -> ProjectConfig:
    config = root / "langgraph.json"
    config.write_text(json.dumps({"graphs": {"agent": "./agent.py:graph"}, **keys}))
    return read_project(config)


def problem(root: Path, **keys: Any) -> str:
    with pytest.raises(ProjectError) as caught:
        read(root, **keys)
    message = str(caught.value)
    assert "\n" not in message
    assert str(root / "langgraph.json") in message
    return message


def test_reads_every_section(project: Path) -> None:
    config = read(
        project,
        graphs={"agent": "./agent.py:graph", "other": {"path": "pkg.mod:graph", "description": "The other."}},
        dependencies=[".", "./sub", "requests>=2"],
        env={"A": "1", "B": 2},
        store={"ttl": {}},
        checkpointer={"ttl": {"default_ttl": 5}},
        http={"app": "./app.py:app"},
        auth={"path": "./auth.py:auth"},
        webhooks={"headers": {}},
        surprise=1,
        python_version="3.12",
    )
    assert config.root == project
    assert list(config.graphs) == ["agent", "other"]
    assert config.graphs["agent"].target == "./agent.py:graph"
    assert config.graphs["agent"].description is None
    assert config.graphs["other"].description == "The other."
    assert config.dependencies == (".", "./sub", "requests>=2")
    assert config.local_dependencies == (project, project / "sub")
    assert config.env == {"A": "1", "B": "2"}
    assert (config.store, config.checkpointer) == ({"ttl": {}}, {"ttl": {"default_ttl": 5}})
    assert config.http.app == "./app.py:app"
    assert config.auth == AuthSettings(path="./auth.py:auth")
    assert config.webhooks == {"headers": {}}
    assert config.unknown_keys == ("surprise",)


def test_absent_sections_are_none(project: Path) -> None:
    config = read(project)
    assert (config.store, config.checkpointer, config.auth, config.webhooks) == (None,) * 4
    assert config.http == HttpSettings()
    assert (config.env, config.dependencies, config.unknown_keys) == ({}, (), ())


def test_env_from_a_dotenv_file() -> None:
    config = read_project(PROJECTS / "src_layout" / "langgraph.json")
    assert config.env == {"WEATHER_CITY": "Oslo", "WEATHER_UNIT": "celsius"}


def test_env_does_not_override_what_is_set(project: Path) -> None:
    environ = {"A": "mine"}
    read(project, env={"A": "theirs", "B": "theirs"}).apply_env(environ)
    assert environ == {"A": "mine", "B": "theirs"}


def test_env_is_not_shown_in_repr(project: Path) -> None:
    assert "canary" not in repr(read(project, env={"KEY": "canary"}, webhooks={"headers": {"x": "canary"}}))


def test_a_dependency_may_lie_beside_the_project() -> None:
    config = read_project(PROJECTS / "monorepo" / "apps" / "agent" / "langgraph.json")
    assert config.local_dependencies[1] == PROJECTS / "monorepo" / "libs" / "shared_words"


@pytest.mark.parametrize("folder", ["", "minimal", "chat_agent", "human_in_the_loop", "long_run"])
def test_examples_are_valid(folder: str) -> None:
    config = read_project(EXAMPLES / folder / "langgraph.json")
    assert all(graph.description for graph in config.graphs.values())
    assert config.unknown_keys == ()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"nowhere/langgraph\.json does not exist\."):
        read_project(tmp_path / "nowhere" / "langgraph.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "graphs": {\n    "a" 1\n  }\n}', "line 3: not valid JSON"),
        (b"[]", "must hold a JSON object"),
        (b"\xff\xfe", "cannot be read"),
        (b"{}", "'graphs' is missing"),
    ],
)
def test_unreadable_file(tmp_path: Path, content: bytes, message: str) -> None:
    config = tmp_path / "langgraph.json"
    config.write_bytes(content)
    with pytest.raises(ProjectError, match=message) as caught:
        read_project(config)
    assert str(config) in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"graphs": {}}, "'graphs' is empty"),
        ({"graphs": ["./agent.py:graph"]}, "'graphs' must map"),
        ({"graphs": {"my agent": "./agent.py:graph"}}, "'my agent' must be URL-safe"),
        ({"graphs": {"a/b": "./agent.py:graph"}}, "'a/b' must be URL-safe"),
        ({"graphs": {"..": "./agent.py:graph"}}, "'..' must be URL-safe"),
        ({"graphs": {"": "./agent.py:graph"}}, "'' must be URL-safe"),
        ({"graphs": {"a": 3}}, "graphs.a must be './file.py:name'"),
        ({"graphs": {"a": {"description": "no path"}}}, "graphs.a must be './file.py:name'"),
        ({"graphs": {"a": {"path": "./agent.py:graph", "description": 3}}}, "graphs.a.description must be a string"),
        ({"graphs": {"a": "./agent.py"}}, "graphs.a: './agent.py' needs the form"),
        ({"graphs": {"a": "./agent.py:"}}, "needs the form"),
        ({"graphs": {"a": ":graph"}}, "needs the form"),
        ({"graphs": {"a": "./agent.py:my graph"}}, "'my graph' in './agent.py:my graph' is not a Python name"),
        ({"graphs": {"a": "./missing.py:graph"}}, "missing.py does not exist"),
        ({"graphs": {"a": "./sub:graph"}}, "'./sub' is not a Python file"),
        ({"graphs": {"a": "my-pkg.mod:graph"}}, "neither a file path nor a module name"),
        ({"graphs": {"a": "./agent.ts:graph"}}, "is a JavaScript graph"),
        ({"graphs": {"a": "./agent.mjs:graph"}}, "is a JavaScript graph"),
        ({"dependencies": "."}, "'dependencies' must be a list"),
        ({"dependencies": ["./missing"]}, "the folder './missing' does not exist"),
        ({"env": "./missing.env"}, "missing.env does not exist"),
        ({"env": ["A=1"]}, "env must be a map of variables or the path"),
        ({"env": {"A": True}}, "env.A must be a string"),
        ({"store": "big"}, "'store' must be an object"),
        ({"http": []}, "'http' must be an object"),
        ({"env": {"A\nB": None}}, "env.A\\x0aB must be a string"),
    ],
)
def test_each_mistake_has_a_sentence(project: Path, keys: dict[str, Any], message: str) -> None:
    assert message in problem(project, **keys)


ESCAPES = [
    "../outside.py",
    "./../outside.py",
    "sub/../../outside.py",
    "./sub/../agent.py",
    "..\\outside.py",
    ".\\..\\outside.py",
    "/etc/passwd.py",
    "/etc/../etc/passwd.py",
    "//etc/passwd.py",
    "~/agent.py",
    "~root/agent.py",
    "file:///etc/passwd.py",
    "https://example.com/agent.py",
    "./link.py",
    "./linked/outside.py",
    "./agent.py\x00.txt",
    "./" + "a" * 5000 + ".py",
    "./%2e%2e/outside.py",
    "...outside",
    "..outside",
    ".outside",
    "a..b",
    "a b",
    "",
]


@pytest.mark.parametrize("location", ESCAPES)
def test_no_graph_from_outside_the_project(project: Path, location: str) -> None:
    (project / "link.py").symlink_to(project.parent / "outside.py")
    (project / "linked").symlink_to(project.parent)
    problem(project, graphs={"a": f"{location}:graph"})


def test_no_graph_by_the_absolute_path_of_an_outside_file(project: Path) -> None:
    assert "lies outside" in problem(project, graphs={"a": f"{project.parent}/outside.py:graph"})


def test_an_absolute_path_inside_the_project_is_fine(project: Path) -> None:
    assert read(project, graphs={"a": f"{project}/agent.py:graph"}).graphs["a"].target.endswith("agent.py:graph")


@pytest.mark.parametrize("path", ["../outside.env", "./sub/../../outside.env", "/etc/passwd", "./link.env", "a\x00b"])
def test_no_env_from_outside_the_project(project: Path, path: str) -> None:
    (project / "link.env").symlink_to(project.parent / "outside.env")
    problem(project, env=path)


@pytest.mark.parametrize("path", ["/etc", "./\x00", "/"])
def test_no_dependency_by_absolute_path_outside(project: Path, path: str) -> None:
    problem(project, dependencies=[path])
