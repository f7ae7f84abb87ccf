"""``python -m bench.cold_start``: what each function's import costs, in a fresh process each time, with byte code as in a bundle.

The best of several rounds, since whatever else the machine does only adds to a figure; CPU seconds beside those of the clock for the
same reason. `tests/budgets/test_imports.py` holds functions to the numbers that no machine changes: which modules, and how
many. ``--bundle`` measures the handlers of a folder that ``langgraph-serverless build`` has written.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.curves.guide import replaced
from langgraph_serverless.domain.manifest import GraphManifest, Manifest, canonical

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guides" / "running-on-lambda.md"
API = ("assistants", "threads", "runs", "stream", "crons", "store", "mcp", "a2a", "system", "app")
FUNCTIONS = (*API, "scheduler", "migrate", "state", "worker")
#: Milliseconds: C1 and C2 of the design.
PROMISED = {**dict.fromkeys(API, 450), "state": 1300, "worker": 1300}

_GRAPH = """
from langgraph.graph import StateGraph
graph = StateGraph(dict).add_node("node", lambda _: {}).set_entry_point("node")
"""
_IMPORT = """
import sys, time
modules = len(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
if sys.argv[1] in ("stream", "mcp", "a2a", "app"):
    import langgraph_serverless.lambda_runtime.loop  # in the place of the managed client, which is not counted
__import__(f"langgraph_serverless_functions.{sys.argv[1]}.handler")
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
import json, resource
loaded = sorted(name for name, module in sys.modules.items() if module is not None)
size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"wall_ms": 1000 * wall, "cpu_ms": 1000 * cpu, "rss_mb": size, "modules": loaded}))
"""


@dataclass(frozen=True)
class ColdStart:
    """One import."""

    wall_ms: float
    cpu_ms: float
    rss_mb: float
    modules: frozenset[str]

    @property
    def packages(self) -> frozenset[str]:
        return frozenset(name.partition(".")[0] for name in self.modules)


@contextmanager
def checkout_bundle() -> Iterator[Path]:
    """A folder like a bundle with the handlers of this checkout and a project of one graph, so that the user's code costs nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
        (folder / "langgraph_serverless").symlink_to(ROOT / "core" / "langgraph_serverless")
        (folder / "project").mkdir()
        (folder / "project" / "graph.py").write_text(_GRAPH)
        (folder / "project" / "langgraph.json").write_text('{"graphs": {"one": "./graph.py:graph"}}')
        one = GraphManifest(
            graph_id="one", description=None, is_factory=False, schemas={}, drawings={"false": {}}, subgraphs={}
        )
        (folder / "langgraph_manifest.json").write_text(canonical(Manifest.of({"one": one}).to_json()))
        yield folder


def cold_start(function: str, bundle: Path, python: str = sys.executable) -> ColdStart:
    """Import one function's handler as its sandbox does."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(bundle),
        "DATABASE_URI": "postgresql://nowhere/none",
        "REDIS_URI": "redis://nowhere",
        "LANGGRAPH_CONFIG": str(bundle / "project" / "langgraph.json"),
        "LANGGRAPH_MANIFEST": str(bundle / "langgraph_manifest.json"),
    }
    command = [python, "-c", _IMPORT, function]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{function} does not start: {done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    return ColdStart(**{**found, "modules": frozenset(found["modules"])})


def table(best: dict[str, ColdStart]) -> str:
    """In Markdown."""
    lines = [
        "| function | import, ms | of it CPU | modules | memory, MB | promised, ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in best.items():
        promised = PROMISED.get(name, "")
        lines.append(
            f"| {name} | {one.wall_ms:.0f} | {one.cpu_ms:.0f} | {len(one.modules)} | {one.rss_mb:.0f} | {promised} |"
        )
    return "\n".join(lines)


def measure(functions: Sequence[str], bundle: Path, rounds: int, python: str) -> dict[str, ColdStart]:
    """The best of so many rounds; the first one, which may write byte code, does not count."""
    seen: dict[str, list[ColdStart]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name in functions:
            one = cold_start(name, bundle, python)
            if number:
                seen[name].append(one)
    return {name: min(starts, key=lambda one: one.wall_ms) for name, starts in seen.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cold_start", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("functions", nargs="*", default=FUNCTIONS, help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", type=Path, help="of 'langgraph-serverless build' (default: this checkout)")
    parser.add_argument("--python", default=sys.executable, help="of the version that the bundle is for")
    parser.add_argument("--publish", action="store_true", help="write the table into docs/guides/running-on-lambda.md")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        bundle = arguments.bundle.resolve() if arguments.bundle else stack.enter_context(checkout_bundle())
        measured = table(measure(arguments.functions, bundle, arguments.rounds, arguments.python))
    print(measured)
    if arguments.publish:
        GUIDE.write_text(replaced(GUIDE.read_text(), "imports", measured))


if __name__ == "__main__":
    main()
