"""Asks a server all steps of a case and makes its answers comparable.

What differs from one conversation to the next is replaced: values that were kept, made up (``{unique}``, ``{uuid1}``) or
given by the server by their names, other ids and times by their kind. The rest stays as it was answered.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

PATIENCE = 30.0
#: From the head of an endless stream until whoever sends it listens (seconds).
LISTENS_AFTER = 0.3
#: Compared wherever one of the servers sends them; a step's ``headers_too`` names more.
HEADERS = ("content-type", "location", "content-location", "x-pagination-total", "x-pagination-next", "allow")
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


_SET = re.compile(r"\{'\w+'(?:, '\w+')*\}")


class Conversation:
    """One case with one server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        # in this order of rank, so that a list sorted by id is sorted alike in every conversation
        made_up = sorted(str(uuid.uuid4()) for _ in range(4))
        self._kept: dict[str, Any] = {f"uuid{number}": value for number, value in enumerate(made_up, 1)}
        self._kept["unique"] = f"u{uuid.uuid4().hex[:12]}"
        self._kept["server"] = str(client.base_url).rstrip("/")
        self._behind: list[asyncio.Task[None]] = []

    async def hold(self, case: Mapping[str, Any]) -> list[Any]:
        """The normalised answers to all steps."""
        if (thread := case.get("thread", {})) is not False:
            made = await self._client.post("/threads", json=self._filled(thread))
            self._kept["thread"] = made.json()["thread_id"]
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
                if step.get("until_status", answer["status"]) == answer["status"] and all(
                    at(answer.get("json"), path) == self._filled(value) for path, value in step.get("until", {}).items()
                ):
                    break
                await asyncio.sleep(0.05)
        for name, path in step.get("keep", {}).items():
            if (kept := at(answer.get("json"), path)) is None:
                raise LookupError(f"step {number} has no {path} to keep: {answer}")
            self._kept[name] = kept
        answers[number] = answer

    async def _send(self, step: Mapping[str, Any], started: asyncio.Event) -> dict[str, Any]:
        method, _, path = step["send"].partition(" ")
        headers = self._filled(step.get("headers", {}))
        body: dict[str, Any] = {}
        if "raw" in step:
            body["content"] = self._raw(step["raw"])
            headers = {"content-type": "application/json"} | headers
        elif "json" in step:
            body["json"] = self._filled(step["json"])
        try:
            async with self._client.stream(method, self._filled(path), headers=headers, **body) as response:
                if found := re.search(r"/runs/([0-9a-f-]{36})", response.headers.get("content-location", "")):
                    self._kept["run"] = found[1]
                    self._kept.setdefault("first_run", found[1])
                if "told" in step and response.status_code == 200:
                    content = await _told(response, *step["told"], started)
                elif "quiet" in step and response.status_code == 200:
                    content = await _until_quiet(response, step["quiet"])
                else:
                    started.set()
                    content = (await response.aread()).decode() if response.status_code != 500 else ""
        except (httpx.ReadError, httpx.RemoteProtocolError):
            if started.is_set():
                raise
            # the official server drops the connection with its 500, sometimes before it is read
            return {"status": 500}
        return self._read(step, response, content) if response.status_code != 500 else {"status": 500}

    def _read(self, step: Mapping[str, Any], response: httpx.Response, content: str) -> dict[str, Any]:
        look = step.get("look", "all")
        answer: dict[str, Any] = {"status": response.status_code}
        compared = (*HEADERS, *step.get("headers_too", ()))
        answer["headers"] = {name: response.headers[name] for name in compared if name in response.headers}
        if "allow" in answer["headers"]:
            answer["headers"]["allow"] = ", ".join(sorted(answer["headers"]["allow"].split(", ")))
        if look == "head":
            return answer
        if "event-stream" in response.headers.get("content-type", ""):
            answer["ids"] = "\nid:" in content.replace("\r", "")
            answer["events"] = [[name, _counted(data)] for name, data in events(content)]
            if step.get("unordered"):
                answer["events"].sort(key=self._rank)
        elif "json" in response.headers.get("content-type", "") and content:
            answer["json"] = json.loads(content)
            if step.get("unordered"):
                listed = answer["json"].get("items") if isinstance(answer["json"], dict) else answer["json"]
                if isinstance(listed, list):
                    listed.sort(key=self._rank)
            if look == "shape":
                answer["json"] = shape(answer["json"])
            elif look == "keys":
                answer["json"] = sorted(keys(answer["json"]))
        else:
            answer["text"] = content
        return answer

    def _rank(self, item: Any) -> str:
        return json.dumps(self._plain(item), sort_keys=True)

    def _raw(self, raw: Any) -> bytes:
        """Text, or pieces of text with how often they come; what JSON cannot say of bytes is in surrogates."""
        pieces = [(raw, 1)] if isinstance(raw, str) else raw
        text = "".join(self._filled(piece) * times for piece, times in pieces)
        return text.encode(errors="surrogateescape")

    def _filled(self, value: Any) -> Any:
        """The value with ``{name}`` replaced by what was kept, which keeps its type if nothing else is around it."""
        if isinstance(value, str):
            if (whole := re.fullmatch(r"\{(\w+)\}", value)) and not isinstance(self._kept[whole[1]], str):
                return self._kept[whole[1]]
            return re.sub(r"\{([A-Za-z_]\w*)\}", lambda found: str(self._kept[found[1]]), value)
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, dict):
            return {self._filled(key): self._filled(item) for key, item in value.items()}
        return value

    def _plain(self, value: Any, key: str = "") -> Any:
        """The value without what differs from one conversation to the next."""
        if key in ANY and value is not None:
            return "<any>"
        if key == "score" and isinstance(value, float):
            return round(value, 5)  # vectors may be kept in single precision
        if isinstance(value, str):
            for name, kept in self._kept.items():
                # ids and times, but not words that may stand anywhere
                if isinstance(kept, str) and len(kept) > 8:
                    value = value.replace(kept, f"<{name}>")
            for pattern, kind in _KINDS:
                value = pattern.sub(kind, value)
            # a set in a sentence has another order in every process
            return _SET.sub(lambda found: f"{{{', '.join(sorted(found[0][1:-1].split(', ')))}}}", value)
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        if isinstance(value, dict):
            said = [(self._plain(name), self._plain(item, name)) for name, item in value.items() if name not in UNSAID]
            return dict(_distinct(sorted(said, key=lambda item: json.dumps(item, sort_keys=True))))
        return value


async def _told(response: httpx.Response, text: str, times: int, started: asyncio.Event) -> str:
    """What comes on a stream without an end until it has said this so many times."""
    # the official server listens a moment after it has answered, and nothing says when
    asyncio.get_running_loop().call_later(LISTENS_AFTER, started.set)
    content = b""
    async for chunk in response.aiter_bytes():
        content += chunk
        if content.count(text.encode()) >= times and content.replace(b"\r", b"").endswith(b"\n\n"):
            break
    return content.decode()


def _distinct(items: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The items with numbers at keys that have become the same, as ids do."""
    seen: Counter[str] = Counter()
    for key, item in items:
        seen[key] += 1
        yield key if seen[key] == 1 else f"{key} {seen[key]}", item


async def _until_quiet(response: httpx.Response, seconds: float) -> str:
    """What has come of a stream when nothing came for this long; keep-alives are nothing."""
    content, pieces = "", response.aiter_text()
    while True:
        try:
            piece = await asyncio.wait_for(anext(pieces, ""), seconds)
        except TimeoutError:
            return content
        if not piece or piece.startswith(":"):
            return content
        content += piece


def _counted(data: Any) -> Any:
    """An event without its place in the stream, if it is one of the thread protocol's own streams."""
    if not isinstance(data, dict) or data.get("type") != "event" or "event_id" not in data:
        return data
    params = {key: value for key, value in data["params"].items() if key != "timestamp"}
    return {**{key: value for key, value in data.items() if key not in {"event_id", "seq"}}, "params": params}


def events(content: str) -> Iterator[list[Any]]:
    """The ``[event, data]`` of a stream, without comments."""
    for block in content.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            yield [fields.get("event"), json.loads(fields["data"]) if "data" in fields else None]


def at(document: Any, path: str) -> Any:
    """The value at ``a.0.b``, ``None`` if there is none."""
    for key in path.split("."):
        try:
            document = document[int(key) if isinstance(document, list) else key]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return document


def shape(value: Any) -> Any:
    """The document with the kinds of its values in their place."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return f"<{'number' if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__}>"


def keys(value: Any, path: str = "") -> Iterator[str]:
    """The paths of the document's objects down to what is no object; a list is one."""
    if not isinstance(value, dict):
        yield path
        return
    for key, item in value.items():
        yield from keys(item, f"{path}.{key}" if path else key)


async def ask_all(url: str, cases: Sequence[Mapping[str, Any]], *, at_once: int = 8) -> dict[str, Any]:
    """The answers of the server at ``url`` by the names of the cases; an exception if it could not be asked.

    Cases that are to be ``alone`` come last, one after the other.
    """
    room = asyncio.Semaphore(at_once)
    # one client, as each makes a TLS context, which takes longer than a request
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=httpx.Limits(max_connections=None)) as client:

        async def ask(case: Mapping[str, Any]) -> Any:
            async with room:
                try:
                    return await Conversation(client).hold(case)
                except (httpx.HTTPError, TimeoutError, LookupError, TypeError, ValueError) as error:
                    return [{"failed": repr(error)}]

        together = [case for case in cases if not case.get("alone")]
        answers = dict(zip([case["name"] for case in together], await asyncio.gather(*map(ask, together)), strict=True))
        for case in cases:
            if case.get("alone"):
                answers[case["name"]] = await ask(case)
    return {case["name"]: answers[case["name"]] for case in cases}
