"""Parsers of what others send, and how each is held to its promise: it returns, or raises one of our errors, and nothing else.

Shared by the quick form (hypothesis, ``tests/security/test_fuzz.py``) and the long one (``make fuzz``: this file as a program, which
runs atheris where it is installed and random bytes otherwise; it keeps what it has found worth keeping in ``.data/fuzz``).
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from langgraph_serverless.domain import cursors, protocol_commands
from langgraph_serverless.domain.a2a import Dialect
from langgraph_serverless.domain.a2a_messages import read_message as read_a2a_message
from langgraph_serverless.domain.a2a_push import read_config
from langgraph_serverless.domain.auth_filters import FilterError, parse_filter, visible
from langgraph_serverless.domain.crons import check_schedule, parse_end_time
from langgraph_serverless.domain.http_settings import matches
from langgraph_serverless.domain.idempotency import check_key
from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.domain.protocol_filters import parse_subscription
from langgraph_serverless.domain.run_kwargs import without_reserved
from langgraph_serverless.domain.store import check_labels, conditions
from langgraph_serverless.domain.trace_context import TraceContext
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.domain.webhooks import parse_url
from langgraph_serverless.errors import ServerError
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.http import mcp_messages
from langgraph_serverless.http.body import parse_json
from langgraph_serverless.http.schemas import assistants, crons, runs, state, store, threads
from langgraph_serverless.http.validation import invalid_input, refuse_nul
from langgraph_serverless.redaction import redacted
from langgraph_serverless.services.threads import parse_extract

ROOT = Path(__file__).parent.parent.parent
#: Longest that one input may take on a machine that is busy with others (seconds); a pattern that goes astray takes minutes.
PATIENCE = 10.0

MODELS = [
    TypeAdapter(model)
    for module in (assistants, crons, runs, state, store, threads)
    for name, model in vars(module).items()
    if isinstance(model, type) and any(base.__name__ == "RequestModel" for base in model.__mro__[1:])
]


def models(document: Any) -> None:
    for adapter in MODELS:
        try:
            payload = adapter.validate_python(document)
        except ValidationError as error:
            told = invalid_input(error.errors(include_url=False), document).detail
        else:
            refuse_nul(payload)
            told = "fine"
        assert told


def auth_filter(document: Any) -> None:
    found = parse_filter(document)
    # whatever says something keeps something out: nothing is ignored
    assert found is not None or not document
    for metadata in ({}, document, {"owner": document}):
        assert visible(metadata, found) in (True, False)


def project(document: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "langgraph.json"
        path.write_bytes(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))
        (Path(folder) / "graphs.py").write_text("")
        read_project(path)


def project_section(document: Any) -> None:
    """Each section, in a project that is otherwise in order."""
    whole = {"dependencies": ["."], "graphs": {"g": "./graphs.py:g"}}
    told = ""
    for section in ("auth", "http", "store", "checkpointer", "webhooks", "encryption", "priority", "env", "graphs"):
        try:
            project(whole | {section: document})
        except ServerError as error:
            told = str(error)
        assert "\n" not in told


def mcp_envelope(document: Any) -> None:
    async def body() -> dict[str, Any]:
        return {"type": "http.request", "body": orjson.dumps(document)}

    class App:
        user_middleware: tuple[Any, ...] = ()

        class state:
            class container:
                class settings:
                    max_body_bytes = 2**20

    accept = document.get("accept", "*/*") if isinstance(document, dict) else "*/*"
    header = (accept if isinstance(accept, str) else "*/*").encode("latin-1", "replace")
    scope = {"type": "http", "method": "POST", "headers": [(b"accept", header)], "app": App}
    reading = mcp_messages.read_message(Request(scope, body))
    try:
        reading.send(None)
    except StopIteration:
        return
    finally:
        reading.close()
    raise AssertionError("it waits for something")


def redaction(text: str) -> None:
    assert redacted(json.dumps(text)).count('"') >= 2
    json.loads(redacted(json.dumps({"said": text})))


def wildcards(text: str) -> None:
    pattern, _, name = text.partition("|")
    assert matches(pattern, name) in (True, False)
    assert matches("*" + name, name)


@dataclass(frozen=True)
class Target:
    """A parser: of a text, or of a JSON document."""

    parse: Callable[[Any], Any]
    of_text: bool = False
    also: tuple[type[Exception], ...] = ()

    def __call__(self, value: Any) -> None:
        """Raises whatever it must not."""
        started = time.monotonic()
        try:
            self.parse(value)
        except (ServerError, *self.also):
            pass
        assert time.monotonic() - started < PATIENCE


TARGETS: dict[str, Target] = {
    "JSON body": Target(lambda text: parse_json(text.encode("utf-8", "surrogatepass")), of_text=True),
    "bodies of requests": Target(models),
    "auth filter": Target(auth_filter, also=(FilterError,)),
    "schedule": Target(lambda text: check_schedule(text, None), of_text=True),
    "time zone": Target(lambda text: check_schedule("0 0 * * *", text), of_text=True),
    "end time": Target(parse_end_time, of_text=True),
    "namespace": Target(
        lambda value: check_labels([str(each) for each in value] if isinstance(value, list) else [str(value)])
    ),
    "store filter": Target(lambda value: conditions(value) if isinstance(value, dict) else None),
    "id": Target(lambda text: parse_id(text, "thread"), of_text=True),
    "Last-Event-ID": Target(cursors.parse_last_event_id, of_text=True),
    "Last-Event-ID of a thread": Target(cursors.parse_event_id, of_text=True),
    "extract path": Target(lambda text: parse_extract({"alias": text}), of_text=True),
    "extract alias": Target(lambda text: parse_extract({text: "values.a"}), of_text=True),
    "Idempotency-Key": Target(check_key, of_text=True),
    "traceparent": Target(lambda text: TraceContext.of(text, text), of_text=True),
    "webhook URL": Target(lambda text: (parse_url(text), parse_url("http://" + text)), of_text=True),
    "webhook rules": Target(lambda value: WebhookRules.of(value) if isinstance(value, dict) else None),
    "protocol command": Target(protocol_commands.read_command),
    "protocol subscription": Target(parse_subscription),
    "configurable": Target(lambda value: without_reserved(value) if isinstance(value, dict) else None),
    "MCP envelope": Target(mcp_envelope, also=(mcp_messages.RpcError, mcp_messages.RefusedError)),
    "A2A message": Target(lambda value: read_a2a_message(value if isinstance(value, dict) else {"message": value})),
    "A2A push config": Target(lambda value: [read_config(value, dialect, "id") for dialect in Dialect]),
    "langgraph.json": Target(project),
    "sections of langgraph.json": Target(project_section),
    "wildcards": Target(wildcards, of_text=True),
    "redaction": Target(redaction, of_text=True),
}


def feed(target: Target, data: bytes) -> None:
    """Bytes as what the target takes."""
    if target.of_text:
        target(data.decode("utf-8", "replace"))
        return
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    target(document)


def main() -> None:
    """``fuzzing.py TARGET SECONDS``: until the time is over or something is found; ``all`` of them, each in a process of its own."""
    name, seconds = sys.argv[1], float(sys.argv[2])
    if name == "all":
        failed = []
        for each in TARGETS:
            print(f"{each}: ", end="", flush=True)
            done = subprocess.run([sys.executable, __file__, each, str(seconds)], check=False)
            failed += [each] * (done.returncode != 0)
        sys.exit(f"found something in: {', '.join(failed)}" if failed else 0)
    target, corpus = TARGETS[name], ROOT / ".data" / "fuzz" / name.replace(" ", "-").replace("/", "-")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(
        (b"{}", b"[]", b'{"a": {"$eq": 1}}', b"0 5 * * 1", b"1-0", b"http://a/", b"values.a[0]")
    ):
        (corpus / f"seed-{number}").write_bytes(seed)
    try:
        import atheris
    except ImportError:
        _at_random(target, corpus, seconds)
        return
    atheris.instrument_all()
    options = [sys.argv[0], str(corpus), f"-max_total_time={seconds:g}", "-max_len=4096", "-timeout=20", "-verbosity=0"]
    atheris.Setup(options, lambda data: feed(target, bytes(data)))
    atheris.Fuzz()


def _at_random(target: Target, corpus: Path, seconds: float) -> None:
    seed = random.randrange(2**32)
    chance, ends, tried = random.Random(seed), time.monotonic() + seconds, 0
    seeds = [path.read_bytes() for path in sorted(corpus.iterdir())]
    while time.monotonic() < ends:
        data = bytearray(chance.choice(seeds) * chance.randint(1, 4))
        for _ in range(chance.randint(1, 20)):
            place = chance.randrange(len(data) + 1)
            data[place : place + chance.randint(0, 3)] = chance.choice(
                (
                    bytes([chance.randrange(256)]),
                    b'"',
                    b"{",
                    b"}",
                    b"[",
                    b"]",
                    b",",
                    b":",
                    b"$or",
                    b"\\u0000",
                    b"-",
                    b"*",
                    b"9" * 30,
                )
            )
        try:
            feed(target, bytes(data))
        except BaseException:
            print(f"seed={seed} input={bytes(data)!r}", file=sys.stderr)
            raise
        tried += 1
    print(f"{tried} inputs, nothing found, seed={seed}")


if __name__ == "__main__":
    main()
