"""Dependencies of bundles: what a project asks for, what is installed, what is left out of it, and what it weighs.

Wheels are made here, and pip finds no others.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.build import bundle, requirements
from langgraph_serverless.build.bytecode import compile_bundle, interpreter
from langgraph_serverless.build.installer import install
from langgraph_serverless.build.measuring import BundleSize, check_budget, measure
from langgraph_serverless.build.pruning import prune
from langgraph_serverless.build.requirements import project_requirements
from langgraph_serverless.build.sources import allowed_requirements, pinned_requirements
from langgraph_serverless.build.target import BuildTarget, host_architecture, host_python
from langgraph_serverless.domain.http_settings import HttpSettings
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig, read_project

HERE = BuildTarget(python=host_python(), architecture=host_architecture())
GRAPH = "from langgraph.graph import StateGraph\ngraph = None\n"
BACKEND = """
import pathlib, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "agent-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        wheel.writestr("agent/__init__.py", "HERE = 'from the wheel'\\n")
        wheel.writestr("agent-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: agent\\nVersion: 1.0\\nRequires-Dist: leaf\\n")
        wheel.writestr("agent-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("agent-1.0.dist-info/RECORD", "")
    return name
"""


def wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    needs: str = "",
    files: dict[str, str] | None = None,
) -> Path:
    """A wheel in ``folder``."""
    info, path = f"{name}-{version}.dist-info", folder / f"{name}-{version}-{tag}.whl"
    contents = {
        f"{name}/__init__.py": f"VERSION = '{version}'\n",
        **(files or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    rows = [f"{file},sha256={'0' * 43},{len(text)}" for file, text in contents.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**contents, f"{info}/RECORD": "\n".join([*rows, f"{info}/RECORD,,"])}.items():
            archive.writestr(file, text)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks for wheels."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def said() -> list[str]:
    return []


def project(tmp_path: Path, files: dict[str, str], dependencies: list[str]) -> ProjectConfig:
    config = {"graphs": {"echo": "./graph.py:graph"}, "dependencies": dependencies}
    for name, text in {"graph.py": GRAPH, "langgraph.json": json.dumps(config), **files}.items():
        path = tmp_path / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_project(tmp_path / "app" / "langgraph.json")


def put(tmp_path: Path, said: list[str], *, pins: str, ranges: list[str], wanted: list[str], **options: object) -> Path:
    bundle, scratch, pinned = tmp_path / "worker", tmp_path / "installing", tmp_path / "pins.txt"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    pinned.write_text(pins)
    settings = {"locked": [], "target": HERE, **options}
    install(bundle, pins=pinned, ranges=ranges, wanted=wanted, scratch=scratch, say=said.append, **settings)  # type: ignore[arg-type]
    return bundle


def version(bundle: Path, name: str) -> str:
    (found,) = importlib.metadata.distributions(name=name, path=[str(bundle)])
    return found.version


def test_what_the_project_asks_for(tmp_path: Path, said: list[str]) -> None:
    files = {
        "requirements.txt": "orjson\n",
        "pyproject.toml": "[project]\nname = 'app'\nversion = '1'\ndependencies = ['pydantic>=2']\n",
    }
    found = project_requirements(project(tmp_path, files, [".", "tenacity"]), tmp_path / "scratch", said.append)
    assert found.wanted == ["tenacity", "-r", str(tmp_path / "app" / "requirements.txt"), "pydantic>=2"]
    assert (found.locked, said) == ([], [])


def test_folders_that_are_edited_at_home_are_installed(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    files = {
        "pyproject.toml": "[build-system]\nrequires = []\n",
        "requirements.txt": "-e .[fast]\n--editable=../lib ; sys_platform == 'linux'\n-c limits.txt\nleaf  # one\n"
        "-e git+https://example.com/x.git@v1#egg=x\n",
    }
    monkeypatch.setattr(requirements, "build_wheel", lambda folder, place: place / "app.whl")
    found = project_requirements(project(tmp_path, files, ["."]), tmp_path / "scratch", said.append)
    option, file, package = found.wanted
    assert (option, package) == ("-r", f"{tmp_path}/scratch/0/wheel/app.whl[fast]")
    assert Path(file).read_text().splitlines() == [
        f"{tmp_path}/lib ; sys_platform == 'linux'",
        f"-c {tmp_path}/app/limits.txt",
        "leaf  # one",
        "git+https://example.com/x.git@v1#egg=x",
    ]


def test_a_package_with_a_build_of_its_own_is_built_and_brings_its_dependencies(
    tmp_path: Path, index: Path, said: list[str]
) -> None:
    wheel(index, "leaf", "1.0")
    files = {
        "src/agent/__init__.py": "HERE = 'from the folder'\n",
        "backend.py": BACKEND,
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
    }
    found = project_requirements(project(tmp_path, files, ["."]), tmp_path / "scratch", said.append)
    assert [Path(entry).name for entry in found.wanted] == ["agent-1.0-py3-none-any.whl"]
    bundle = put(tmp_path, said, pins="", ranges=[], wanted=found.wanted)
    assert "from the wheel" in (bundle / "agent" / "__init__.py").read_text()
    assert version(bundle, "leaf") == "1.0"


def test_a_package_that_cannot_be_built_is_imported_from_its_folder(
    tmp_path: Path, index: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "[build-system]\nrequires = []\nbuild-backend = 'nothing'\nbackend-path = ['.']\n"
    files = {"pyproject.toml": f"{broken}[project]\nname = 'app'\nversion = '1'\ndependencies = ['leaf']\n"}
    found = project_requirements(project(tmp_path, files, ["."]), tmp_path / "scratch", said.append)
    assert found.wanted == ["leaf"]
    assert "It is imported from its folder instead." in said[0]
    (tmp_path / "app" / "src").mkdir()

    def fail(*_: object) -> Path:
        raise ProjectError("it cannot be built as a package: as before")

    monkeypatch.setattr(requirements, "build_wheel", fail)
    with pytest.raises(ProjectError, match="cannot be built as a package"):
        project_requirements(project(tmp_path, files, ["."]), tmp_path / "scratch2", said.append)


def test_tested_versions_give_way_to_the_projects(tmp_path: Path, index: Path, said: list[str]) -> None:
    for number in ("1.0", "1.1", "2.0"):
        wheel(index, "leaf", number)
    assert version(put(tmp_path, said, pins="leaf==1.0\n", ranges=["leaf>=1,<2"], wanted=["leaf>1.0"]), "leaf") == "1.1"
    assert "choosing anew" in said[0]


def test_what_is_locked_is_checked_and_kept(tmp_path: Path, index: Path, said: list[str]) -> None:
    good = wheel(index, "leaf", "1.0", files={"space/leaf.py": ""})
    wheel(index, "leaf", "1.1")
    wheel(index, "ours", "1.0", needs="leaf", files={"space/ours.py": ""})
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"leaf==1.0 --hash=sha256:{hashlib.sha256(good.read_bytes()).hexdigest()}\n")
    bundle = put(tmp_path, said, pins="ours==1.0\n", ranges=["ours"], wanted=[], locked=[lock])
    assert version(bundle, "leaf") == "1.0"
    assert {path.name for path in (bundle / "space").iterdir()} == {"leaf.py", "ours.py"}  # one folder of two packages
    lock.write_text(f"leaf==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ProjectError, match="locked could not be downloaded"):
        put(tmp_path, said, pins="ours==1.0\n", ranges=["ours"], wanted=[], locked=[lock])
    assert said[-1].count("HASHES") == 1  # and nothing else was tried


def test_only_wheels_that_lambda_can_load(tmp_path: Path, index: Path, said: list[str]) -> None:
    foreign = BuildTarget(python=HERE.python, architecture="arm64" if HERE.architecture == "x86_64" else "x86_64")
    tag = f"cp{HERE.python.replace('.', '')}-cp{HERE.python.replace('.', '')}"
    wheel(index, "leaf", "1.0", tag=f"{tag}-manylinux_2_28_{foreign.machine}")
    wheel(index, "leaf", "2.0", tag=f"{tag}-manylinux_2_39_{foreign.machine}")
    assert version(put(tmp_path, said, pins="", ranges=[], wanted=["leaf"], target=foreign), "leaf") == "1.0"
    with pytest.raises(ProjectError, match="everything needs a wheel"):
        put(tmp_path, said, pins="", ranges=[], wanted=["leaf>1"], target=foreign)
    assert "No matching distribution found for leaf>1" in said[-1]


def test_what_no_function_needs_is_left_out(tmp_path: Path, index: Path, said: list[str]) -> None:
    wheel(
        index,
        "leaf",
        "1.0",
        files={
            "leaf/tests/test_leaf.py": "",
            "leaf/part/tests/data.bin": "",
            "leaf/__init__.pyi": "",
            "leaf/test/real.py": "",
        },
    )
    wheel(index, "leaf_stubs", "1.0", files={"leaf-stubs/__init__.pyi": ""})
    wheel(
        index,
        "keeper",
        "1.0",
        files={"keeper/run.py": "from keeper.tests import helper\n", "keeper/tests/helper.py": ""},
    )
    wheel(index, "lazy", "1.0", files={"lazy/load.py": "attach_stub(__name__)\n", "lazy/__init__.pyi": ""})
    bundle = put(tmp_path, said, pins="", ranges=[], wanted=["leaf", "leaf_stubs", "keeper", "lazy"])
    (bundle / "project" / "tests").mkdir(parents=True)
    prune(bundle)
    prune(bundle)
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if "dist-info" not in path.as_posix()}
    assert files == {
        "keeper", "keeper/__init__.py", "keeper/run.py", "keeper/tests", "keeper/tests/helper.py",
        "lazy", "lazy/__init__.py", "lazy/__init__.pyi", "lazy/load.py",
        "leaf", "leaf/__init__.py", "leaf/part", "leaf/test", "leaf/test/real.py",
        "leaf_stubs", "leaf_stubs/__init__.py", "project", "project/tests",
    }  # fmt: skip
    kept = {path.name for path in (bundle / "leaf-1.0.dist-info").iterdir()}
    assert kept == {"METADATA", "RECORD", "WHEEL", "entry_points.txt"}
    assert version(bundle, "leaf") == "1.0"
    (distribution,) = importlib.metadata.distributions(name="leaf", path=[str(bundle)])
    assert [str(file) for file in distribution.files or ()][-2:] == ["leaf/__init__.py", "leaf/test/real.py"]


def test_byte_code_for_another_version_needs_an_interpreter_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interpreter(host_python()) == sys.executable
    (tmp_path / "module.py").write_text("ANSWER = 42\n")
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2; exit 127\n")  # as pyenv's are
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert not compile_bundle(tmp_path, "3.99")
    shim.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo 3.99 || exec {sys.executable} "$@"\n')
    assert compile_bundle(tmp_path, "3.99")
    assert [path.suffix for path in (tmp_path / "__pycache__").iterdir()] == [".pyc"]


def test_sizes_by_package(tmp_path: Path) -> None:
    bundle = tmp_path / "worker"
    for made in (
        wheel(tmp_path, "leaf", "1.0", files={"shared/leaf.py": "#" * 5000}),
        wheel(tmp_path, "other", "1.0", files={"shared/other.py": "#" * 9000}),
    ):
        with zipfile.ZipFile(made) as archive:
            archive.extractall(bundle)
    prune(bundle)
    before = measure(bundle)
    assert [name for name, _ in before.largest] == ["other", "leaf"]
    assert compile_bundle(bundle, host_python())
    after = measure(bundle)
    assert [name for name, _ in after.largest] == ["other", "leaf"]
    assert after.unpacked == sum(weight for _, weight in after.largest) > before.unpacked
    assert after.sha256 == measure(bundle).sha256 != before.sha256


def test_too_large_a_bundle_is_refused_with_advice() -> None:
    def size(unpacked: int) -> BundleSize:
        return BundleSize(
            files=1, unpacked=unpacked, zipped=1, sha256="", largest=(("torch", unpacked - 10), ("numpy", 10))
        )

    mega = 1024 * 1024
    assert check_budget("worker", size(199 * mega)) is None
    warning = check_budget("worker", size(210 * mega))
    assert warning is not None
    assert "210.0 MB unpacked; Lambda takes 250.0 MB. Most of it: torch (210.0 MB)" in warning
    with pytest.raises(
        ProjectError, match=r"torch .* container image, which may have 10 GB: 'langgraph-serverless build --image'"
    ):
        check_budget("worker", size(250 * mega))


def test_api_functions_are_not_given_langgraph() -> None:
    for text in (pinned_requirements("api").read_text(), "\n".join(allowed_requirements("api"))):
        assert "psycopg" in text
        assert "langgraph" not in text
        assert "langchain" not in text
    assert any(entry.startswith("langgraph>=") for entry in allowed_requirements("worker"))
    assert not any("uvicorn" in entry for entry in allowed_requirements("worker"))


@pytest.mark.parametrize(
    "code", [{}, {"encryption": "./keys.py:encryption"}, {"http": HttpSettings(app="./web.py:app")}]
)
def test_only_the_worker_is_given_what_the_project_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: dict[str, Any]
) -> None:
    """Unless every function imports its code. And what is not complete is not on record."""
    asked: dict[str, tuple[list[str], str]] = {}

    def remember(folder: Path, *, wanted: list[str], pins: Path, ranges: list[str], **_: object) -> None:
        assert not (tmp_path / "out" / "build.json").exists()
        assert any("langgraph" in entry for entry in ranges) == (pins.name == "worker.txt")
        asked[folder.name] = wanted, pins.name

    for part in ("package_folder", "handlers_folder"):  # smaller than ours: what is asked for is of interest
        (tmp_path / part).mkdir()
        monkeypatch.setattr(bundle, part, lambda part=part: tmp_path / part)
    monkeypatch.setattr(bundle, "install", remember)
    monkeypatch.setattr(bundle, "_manifest", lambda _: Manifest(graphs={}, hash="0", **code))
    project(tmp_path, {"requirements.txt": "leaf\n"}, [".", "tenacity"])
    for _ in range(2):
        bundle.build_bundles(tmp_path / "app" / "langgraph.json", tmp_path / "out", target=HERE)
        assert (tmp_path / "out" / "build.json").exists()
    theirs = ["tenacity", "-r", str(tmp_path / "app" / "requirements.txt")], "worker.txt"
    assert asked == {"api": theirs if code else ([], "base.txt"), "worker": theirs}


def test_a_uv_lock_is_exported_with_its_hashes(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = project(tmp_path, {"uv.lock": "version = 1\n"}, ["."])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert project_requirements(config, tmp_path / "without", said.append).locked == []
    assert "there is no uv on the PATH" in said[0]

    uv = tmp_path / "uv"  # a stand-in: what is of interest is what is asked of it, and what becomes of its answer
    uv.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nfor last; do :; done\necho "leaf==1.0 --hash=sha256:{"0" * 64}" > "$last"\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = project_requirements(config, tmp_path / "with", said.append)
    assert (tmp_path / "asked").read_text().startswith("export --frozen --no-dev --no-emit-project")
    assert [path.read_text() for path in found.locked] == [f"leaf==1.0 --hash=sha256:{'0' * 64}\n"]
