"""Real bundles, with everything that pip finds: every function starts from its own alone, and they stay small.

Needs a package index and an interpreter of one of Lambda's versions, and takes a minute or two, so it is one of the slow tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.build.bytecode import interpreter
from langgraph_serverless.build.sources import handlers_folder
from langgraph_serverless.build.target import PYTHONS, host_python

ROOT = Path(__file__).parents[2]
WORKER = ("worker", "state", "migrate")
#: Unpacked, of the four examples; a quarter more than they have.
MOST_MB = {"api": 58, "worker": 125}
START = """
import importlib, importlib.metadata as metadata, json, os, sys
importlib.import_module(f"langgraph_serverless_functions.{sys.argv[1]}.handler")
installed = list(metadata.distributions())
missing = [str(file) for each in installed for file in each.files or () if not file.locate().exists()]
uncompiled = [
    module.__name__ for module in sys.modules.values()
    if (file := getattr(module, "__file__", None) or "").startswith(sys.argv[2]) and file.endswith(".py")
    and not os.path.exists(module.__spec__.cached)
]
print(json.dumps({
    "names": sorted(each.metadata["Name"] for each in installed), "missing": missing, "uncompiled": uncompiled,
    "outside": [entry for entry in sys.path if "site-packages" in entry],
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_function_starts_from_its_bundle(tmp_path: Path, figures: Any) -> None:
    python = next(
        (version for version in (host_python(), *PYTHONS) if version in PYTHONS and interpreter(version)), None
    )
    if python is None:
        pytest.skip(f"needs python{' or python'.join(PYTHONS)} on the PATH")
    command = [Path(sys.executable).with_name("langgraph-serverless"), "build", "--python-version", python]
    options = ["--architecture", "host", "--config", ROOT / "examples" / "langgraph.json", "--output", tmp_path]
    built = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=600)
    assert built.returncode == 0, built.stdout + built.stderr
    sizes = json.loads((tmp_path / "build.json").read_text())["bundles"]
    for function in sorted(path.parent.name for path in handlers_folder().glob("*/handler.py")):
        name = "worker" if function in WORKER else "api"
        seen = start(interpreter(python) or "", tmp_path / name, function)
        assert seen["missing"] == seen["uncompiled"] == seen["outside"] == []
        assert ("langgraph" in seen["names"]) == (name == "worker")
    megabytes = {name: round(sizes[name]["unpacked_bytes"] / 1024**2, 1) for name in MOST_MB}
    assert all(megabytes[name] < most for name, most in MOST_MB.items()), megabytes
    zipped = {f"{name}_zipped": round(sizes[name]["zipped_bytes"] / 1024**2, 1) for name in MOST_MB}
    figures("bundles", python=python, **megabytes, **zipped)


def start(python: str, bundle: Path, function: str) -> dict[str, Any]:
    """Imports the handler as Lambda does, with nothing but the bundle."""
    done = subprocess.run(
        [python, "-s", "-S", "-W", "ignore", "-c", START, function, str(bundle)],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(bundle),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAMBDA_TASK_ROOT": str(bundle),
            "AWS_LAMBDA_FUNCTION_NAME": function,
            "DATABASE_URI": "postgresql://nobody/nothing",
            "REDIS_URI": "redis://nobody",
            "LANGGRAPH_CONFIG": "project/langgraph.json",
            "LANGGRAPH_MANIFEST": "langgraph_manifest.json",
        },
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen
