"""Sends the cases of ``cases.json`` to servers and says how their answers differ.

    python compare.py URL                 compare with the recorded answers of the official server
    python compare.py URL REFERENCE_URL   compare two servers
    python compare.py --record URL        record the answers of the official server, which serves a copy of
                                          ``tests/fixtures/projects/differential`` (one graph, one worker, 10 jobs)

A case is a list of steps on a thread of its own (``{thread}``). A step sends a request; ``keep`` names values of its
answer for later steps (``{run}``, the last run, is kept by itself), ``until`` repeats it until the answer holds these
values, ``behind`` lets later steps run while it is being answered, ``unordered`` says that events may come in any order.

Answers are compared as normalised documents: ids and times by kind, kept values by name. Differences that are meant are
listed in ``differences.json``, each with its reason; ``at`` is a pattern for the place, see ``Difference``, which
``reference`` and ``ours`` may narrow down to values.
"""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
PATIENCE = 30.0
HEADERS = ("content-type", "location", "content-location")
#: They differ between any two servers.
ANY = frozenset(
    {
        "langgraph_api_version",
        "langgraph_host",
        "langgraph_plan",
        "langgraph_request_id",
        "langgraph_version",
        "lc_versions",
        "__request_start_time_ms__",
    }
)
#: Only a server with one fixed address can say it.
UNSAID = frozenset({"langgraph_api_url"})
_KINDS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<hex>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b0x[0-9a-f]+\b"), "<address>"),
    (re.compile(r"(?<=errors\.pydantic\.dev/)[\d.]+"), "<version>"),
    # the official server goes on with all it knows of these runs
    (re.compile(r"(?<=has in-flight runs).*", re.DOTALL), "..."),
)


@dataclass(frozen=True)
class Difference:
    """One place where two answers differ, as ``case/step/path/to/value``."""

    at: str
    reference: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.at}\n    reference {_short(self.reference)}\n    ours      {_short(self.ours)}"


ABSENT = "<absent>"


def load(name: str) -> Any:
    return json.loads((HERE / name).read_text())


# -- asking ----------------------------------------------------------------------------------------------------------


class Conversation:
    """One case with one server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._kept: dict[str, str] = {}
        self._behind: list[asyncio.Task[None]] = []

    async def hold(self, case: Mapping[str, Any]) -> list[Any]:
        """The normalised answers to all steps."""
        thread = await self._client.post("/threads", json=case.get("thread", {}))
        self._kept["thread"] = thread.json()["thread_id"]
        answers: list[Any] = [None] * len(case["steps"])
        for number, step in enumerate(case["steps"]):
            started = asyncio.Event()
            sending = asyncio.create_task(self._answer(step, answers, number, started))
            if step.get("behind"):
                await asyncio.wait([sending, asyncio.create_task(started.wait())], return_when="FIRST_COMPLETED")
                self._behind.append(sending)
            else:
                await sending
        await asyncio.gather(*self._behind)
        return [self._plain(answer) for answer in answers]

    async def _answer(self, step: Mapping[str, Any], answers: list[Any], number: int, started: asyncio.Event) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = await self._send(step, started)
                if all(_at(answer.get("json"), path) == value for path, value in step.get("until", {}).items()):
                    break
                await asyncio.sleep(0.05)
        for name, path in step.get("keep", {}).items():
            self._kept[name] = _at(answer["json"], path)
        answers[number] = answer

    async def _send(self, step: Mapping[str, Any], started: asyncio.Event) -> dict[str, Any]:
        method, _, path = step["send"].partition(" ")
        body = step.get("json", ABSENT)
        async with self._client.stream(
            method,
            self._filled(path),
            headers=self._filled(step.get("headers", {})),
            **({} if body == ABSENT else {"json": self._filled(body)}),
        ) as response:
            if found := re.search(r"/runs/([0-9a-f-]{36})", response.headers.get("content-location", "")):
                self._kept["run"] = found[1]
                self._kept.setdefault("first_run", found[1])
            started.set()
            content = (await response.aread()).decode()
        answer: dict[str, Any] = {"status": response.status_code}
        answer["headers"] = {name: response.headers[name] for name in HEADERS if name in response.headers}
        if "event-stream" in response.headers.get("content-type", ""):
            answer["ids"] = "\nid:" in content.replace("\r", "")
            answer["events"] = list(events(content))
            if step.get("unordered"):
                answer["events"].sort(key=lambda event: json.dumps(self._plain(event), sort_keys=True))
        elif "json" in response.headers.get("content-type", "") and content:
            answer["json"] = json.loads(content)
        else:
            answer["text"] = content
        return answer

    def _filled(self, value: Any) -> Any:
        """The value with ``{name}`` replaced by what was kept."""
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda found: self._kept[found[1]], value)
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, dict):
            return {self._filled(key): self._filled(item) for key, item in value.items()}
        return value

    def _plain(self, value: Any, key: str = "") -> Any:
        """The value without what differs from one conversation to the next."""
        if key in ANY and value is not None:
            return "<any>"
        if isinstance(value, str):
            for name, kept in self._kept.items():
                value = value.replace(kept, f"<{name}>")
            for pattern, kind in _KINDS:
                value = pattern.sub(kind, value)
            return value
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        if isinstance(value, dict):
            said = [(self._plain(name), self._plain(item, name)) for name, item in value.items() if name not in UNSAID]
            return dict(_distinct(sorted(said, key=lambda item: json.dumps(item, sort_keys=True))))
        return value


def _distinct(items: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The items with numbers at keys that have become the same, as ids do."""
    seen: Counter[str] = Counter()
    for key, item in items:
        seen[key] += 1
        yield key if seen[key] == 1 else f"{key} {seen[key]}", item


def events(content: str) -> Iterator[list[Any]]:
    """The ``[event, data]`` of a stream, without comments."""
    for block in content.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            yield [fields.get("event"), json.loads(fields["data"]) if "data" in fields else None]


async def ask_all(url: str, cases: Sequence[Mapping[str, Any]], *, at_once: int = 6) -> dict[str, Any]:
    """The answers of the server at ``url`` by the names of the cases; an exception if it could not be asked."""
    room = asyncio.Semaphore(at_once)

    async def ask(case: Mapping[str, Any]) -> Any:
        async with room, httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            try:
                return await Conversation(client).hold(case)
            except (httpx.HTTPError, TimeoutError, LookupError, TypeError, ValueError) as error:
                return [{"failed": repr(error)}]

    return dict(zip([case["name"] for case in cases], await asyncio.gather(*map(ask, cases)), strict=True))


def _at(document: Any, path: str) -> Any:
    for key in path.split("."):
        try:
            document = document[int(key) if isinstance(document, list) else key]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return document


# -- comparing -------------------------------------------------------------------------------------------------------


def differences(reference: Any, ours: Any, at: str) -> Iterator[Difference]:
    """Where two documents differ, as deep as can be said."""
    if isinstance(reference, dict) and isinstance(ours, dict):
        for key in sorted(reference.keys() | ours.keys()):
            yield from differences(reference.get(key, ABSENT), ours.get(key, ABSENT), f"{at}/{key}")
    elif isinstance(reference, list) and isinstance(ours, list) and len(reference) == len(ours):
        for number, pair in enumerate(zip(reference, ours, strict=True)):
            yield from differences(*pair, f"{at}/{number}")
    elif _is_stream(reference) and _is_stream(ours):
        yield Difference(f"{at}/names", [event[0] for event in reference], [event[0] for event in ours])
    elif reference != ours or isinstance(reference, bool) != isinstance(ours, bool):
        yield Difference(at, reference, ours)


def _is_stream(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, list) and len(item) == 2 for item in value)


class Deliberate:
    """The differences that are meant."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._entries = entries
        self._used: set[int] = set()

    def covers(self, difference: Difference) -> bool:
        """Whether it is meant: its place matches, and its values are those that the entry names, if it names any."""
        said = {"reference": difference.reference, "ours": difference.ours}
        for number, entry in enumerate(self._entries):
            if fnmatch.fnmatchcase(difference.at, entry["at"]) and all(
                entry.get(side, value) == value for side, value in said.items()
            ):
                self._used.add(number)
                return True
        return False

    @property
    def unused(self) -> list[str]:
        return [entry["at"] for number, entry in enumerate(self._entries) if number not in self._used]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 700 else f"{text[:700]}..."


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("reference", nargs="?")
    parser.add_argument("--record", action="store_true", help="write the answers of URL to recorded.json")
    parser.add_argument("--only", default="*", help="a pattern for the names of cases")
    arguments = parser.parse_args()
    cases = [case for case in load("cases.json") if fnmatch.fnmatchcase(case["name"], arguments.only)]
    ours = await ask_all(arguments.url, cases)
    if arguments.record:
        recorded = (load("recorded.json") if (HERE / "recorded.json").exists() else {}) | ours
        names = [case["name"] for case in load("cases.json")]
        text = ",\n".join(f"{json.dumps(name)}: {_lines(recorded[name])}" for name in names if name in recorded)
        (HERE / "recorded.json").write_text(f"{{\n{text}\n}}\n")
        return 0
    reference = await ask_all(arguments.reference, cases) if arguments.reference else load("recorded.json")
    deliberate = Deliberate(load("differences.json"))
    different, meant = 0, 0
    for case in cases:
        found = list(differences(reference[case["name"]], ours[case["name"]], case["name"]))
        left = [difference for difference in found if not deliberate.covers(difference)]
        different += bool(left)
        meant += bool(found) and not left
        for difference in left:
            print(difference)
    print(
        f"{len(cases)} cases: {len(cases) - different - meant} equal, {meant} deliberately different, {different} different"
    )
    if arguments.only == "*" and deliberate.unused:
        print("differences that are no longer there:", *deliberate.unused, sep="\n    ")
    return 1 if different else 0


def _lines(answers: Sequence[Any]) -> str:
    """One line for each step, so that a change is readable."""
    return (
        "[\n" + ",\n".join(f"  {json.dumps(answer, sort_keys=True, ensure_ascii=False)}" for answer in answers) + "\n]"
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
