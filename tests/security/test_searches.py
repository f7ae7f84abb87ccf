"""Searches: what a client looks for is looked for as it is, in every filter, sort, select, path and namespace.

Rows that a filter must not find are there in plenty. The fast form sends a few hundred texts to every field that is
searched by; the slow one thousands.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile import Hostile

#: Names that wildcards, quotes and cases would mix up.
NAMES = (
    "plain",
    "100%",
    "100x",
    "a_b",
    "axb",
    "back\\slash",
    "back/slash",
    "quo'te",
    'dou"ble',
    "semi;colon",
    "%",
    "_",
    "\\",
)

#: What injections are made of.
PIECES = (
    *(
        "'",
        '"',
        ";",
        "--",
        "/*",
        "*/",
        "\\",
        "%",
        "_",
        "$$",
        "$1",
        "%s",
        "%(p0)s",
        "{}",
        "{0}",
        ":x",
        "@>",
        "||",
        "->>",
        "#>>",
    ),
    *(
        "OR 1=1",
        "UNION SELECT NULL",
        "DROP TABLE lgs.thread",
        "pg_sleep(9)",
        "lgs.run",
        "NULL",
        "::int",
        "E'\\''",
        "U&'\\0061'",
    ),
    *(
        ")",
        "(",
        ",",
        ".",
        " ",
        "\t",
        "\n",
        "[0]",
        "[*]",
        "[-1]",
        "$[*]",
        "a",
        "values",
        "metadata",
        "é",
        "\u202e",
        "\ufeff",
    ),
    *("0", "1e9", "true", "\x00", "\x7f", "‘", "＇", "😀", "COPY t FROM PROGRAM 'id'", "lo_import('/etc/passwd')"),
)


@pytest.fixture(scope="module")
def named(hostile: Hostile) -> list[str]:
    for name in NAMES:
        hostile.make("POST", "/assistants", {"graph_id": "line", "name": name, "metadata": {"hostile": "names"}})
    return list(NAMES)


@pytest.mark.parametrize("part", [*NAMES, "%%", "__", "\\%", "\\_", "%'", "a%", "LAIN", "*", "pl.in"])
def test_wildcards_stand_for_themselves(hostile: Hostile, named: list[str], part: str) -> None:
    wanted = {"name": part, "metadata": {"hostile": "names"}, "limit": 100}
    found = hostile.make("POST", "/assistants/search", wanted)
    assert sorted(item["name"] for item in found) == sorted(name for name in named if part.lower() in name.lower())
    counted = {key: value for key, value in wanted.items() if key != "limit"}
    assert hostile.make("POST", "/assistants/count", counted) == len(found)


def test_namespaces_are_compared_label_by_label(hostile: Hostile) -> None:
    labels = ("a", "ab", "a%", "a_", "%", "_", "a*", "A", "a\\", "a'")
    for label in labels:
        hostile.make("PUT", "/store/items", {"namespace": ["labels", label], "key": "k", "value": {"label": label}})
    for label in labels:
        items = hostile.make("POST", "/store/items/search", {"namespace_prefix": ["labels", label]})["items"]
        assert [item["value"]["label"] for item in items] == [label]
        found = hostile.make("POST", "/store/namespaces", {"prefix": ["labels", label]})["namespaces"]
        assert found == [["labels", label]]
        found = hostile.make("POST", "/store/namespaces", {"suffix": [label], "prefix": ["labels"]})["namespaces"]
        assert found == [["labels", label]]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/assistants/search", "sort_by"),
        ("/assistants/search", "sort_order"),
        ("/threads/search", "sort_by"),
        ("/threads/search", "sort_order"),
        ("/threads/search", "status"),
        ("/runs/crons/search", "sort_by"),
        ("/runs/crons/search", "sort_order"),
    ],
)
def test_names_of_columns_are_of_a_list(hostile: Hostile, path: str, field: str) -> None:
    for text in (
        "name; DROP TABLE lgs.run",
        "NAME",
        "name ",
        "assistant_id--",
        "(SELECT 1)",
        "1",
        "ctid",
        "xmin",
        "purge_at",
    ):
        response = hostile.send("POST", path, json={field: text})
        assert response.status_code == 422
        assert f'["{field}"]' in response.json()["detail"]
    for select in (["*"], ["ctid"], ["name, version"], ['name" FROM lgs.run --'], ["lease_token"], ["purge_at"]):
        assert hostile.send("POST", path, json={"select": select}).status_code == 422


Sender = Callable[[Hostile, str], Any]


def _found(response: Any) -> list[Any]:
    return response.json() if response.is_success else []


def _search(path: str, *field: str) -> Sender:
    def send(hostile: Hostile, text: str) -> Any:
        value: Any = text
        for name in reversed(field):
            value = {name: value}
        return _found(hostile.send("POST", path, json=value))

    return send


def _key(path: str, field: str) -> Sender:
    return lambda hostile, text: _found(hostile.send("POST", path, json={field: {text: "nothing has this"}}))


def _items(**body: Callable[[str], Any]) -> Sender:
    def send(hostile: Hostile, text: str) -> Any:
        response = hostile.send("POST", "/store/items/search", json={name: value(text) for name, value in body.items()})
        return response.json()["items"] if response.is_success else []

    return send


def _namespaces(**body: Callable[[str], Any]) -> Sender:
    def send(hostile: Hostile, text: str) -> Any:
        response = hostile.send("POST", "/store/namespaces", json={name: value(text) for name, value in body.items()})
        return response.json()["namespaces"] if response.is_success else []

    return send


def _get_item(hostile: Hostile, text: str) -> Any:
    response = hostile.send("GET", "/store/items", params={"namespace": text, "key": text})
    return [response.json()] if response.is_success and response.json() else []


def _extract(hostile: Hostile, text: str) -> Any:
    for path in (text, f"values.{text}", f"metadata{text}", f"values[{text}]"):
        response = hostile.send("POST", "/threads/search", json={"extract": {"a": path, text: "values.a"}, "limit": 1})
        if response.is_success:
            assert all(item["extracted"]["a"] is None for item in response.json())
    return []


def _history(hostile: Hostile, text: str) -> Any:
    thread_id = hostile.thread_id
    found = _found(hostile.send("POST", f"/threads/{thread_id}/history", json={"metadata": {text: text}}))
    found += _found(
        hostile.send("POST", f"/threads/{thread_id}/history", json={"checkpoint": {"checkpoint_ns": text + "x"}})
    )
    hostile.send("GET", f"/threads/{thread_id}/history", params={"before": text})
    return found


def _runs(hostile: Hostile, text: str) -> Any:
    path = f"/threads/{hostile.thread_id}/runs"
    hostile.send("GET", path, params={"select": text})
    return _found(hostile.send("GET", path, params={"status": text}))


#: Everything that is searched by. A text that no row holds must find nothing, whatever it says.
SEARCHES: dict[str, Sender] = {
    "assistants by a key of metadata": _key("/assistants/search", "metadata"),
    "assistants by metadata": _search("/assistants/search", "metadata", "a"),
    "assistants by name": lambda hostile, text: _search("/assistants/search", "name")(hostile, text + "\u2400"),
    "assistants by graph": _search("/assistants/search", "graph_id"),
    "threads by a key of metadata": _key("/threads/search", "metadata"),
    "threads by metadata": _search("/threads/search", "metadata", "a"),
    "threads by a key of values": _key("/threads/search", "values"),
    "threads by values": _search("/threads/search", "values", "a"),
    "threads by extract": _extract,
    "crons by a key of metadata": _key("/runs/crons/search", "metadata"),
    "crons by metadata": _search("/runs/crons/search", "metadata", "a"),
    "items by namespace": _items(namespace_prefix=lambda text: [text]),
    "items by a key of the filter": _items(filter=lambda text: {text: 1}),
    "items by the filter": _items(filter=lambda text: {"a": text}),
    "items by an operator": _items(filter=lambda text: {"a": {text: 1}}),
    "items by a comparison": _items(filter=lambda text: {"a": {"$eq": text}, "k": {"$gt": text}}),
    "namespaces by prefix": _namespaces(prefix=lambda text: ["\u2400", text]),
    "namespaces by suffix": _namespaces(suffix=lambda text: [text, "\u2400"]),
    "an item": _get_item,
    "history": _history,
    "runs": _runs,
}


def texts(number: int) -> Iterator[str]:
    """Injections: every piece, then random rows of them; the same ones every time."""
    yield from itertools.islice(PIECES, number)
    choice = random.Random(7)
    for _ in range(number - len(PIECES)):
        yield "".join(choice.choices(PIECES, k=choice.randint(2, 7)))


@pytest.fixture(scope="module")
def rows(hostile: Hostile) -> None:
    """One of everything, so that a filter that is no filter would find something."""
    thread = hostile.make("POST", "/threads", {"metadata": {"graph_id": "line", "a": "b"}})
    hostile.thread_id = thread["thread_id"]
    hostile.make("POST", f"/threads/{hostile.thread_id}/runs/wait", {"assistant_id": "line", "input": {"log": ["in"]}})
    hostile.make("POST", "/runs/crons", {"assistant_id": "line", "schedule": "@yearly", "metadata": {"a": "b"}})
    hostile.make("POST", "/assistants", {"graph_id": "line", "metadata": {"a": "b"}})
    hostile.make("PUT", "/store/items", {"namespace": ["rows"], "key": "k", "value": {"a": "b"}})


def fuzz(hostile: Hostile, about: str, number: int) -> None:
    before = hostile.digest()
    for text in texts(number):
        assert SEARCHES[about](hostile, text) == [], repr(text)
    assert hostile.digest() == before


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("about", SEARCHES)
def test_no_text_finds_what_it_does_not_name(hostile: Hostile, about: str) -> None:
    fuzz(hostile, about, len(PIECES))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("about", SEARCHES)
def test_no_text_finds_what_it_does_not_name_thousands(hostile: Hostile, about: str) -> None:
    fuzz(hostile, about, 5000)


@pytest.mark.usefixtures("rows")
def test_stored_text_comes_back_as_it_was(hostile: Hostile) -> None:
    for number, text in enumerate(texts(len(PIECES))):
        kept = text.replace("\x00", "")
        stored = hostile.make("POST", "/threads", {"metadata": {"kind": f"stored {number}", "text": text, text: 1}})
        assert stored["metadata"]["text"] == kept
        found = hostile.make("POST", "/threads/search", {"metadata": {"kind": f"stored {number}", "text": text}})
        assert [item["thread_id"] for item in found] == [stored["thread_id"]]
        if kept == text and "." not in text:
            item = {"namespace": ["stored", text], "key": text, "value": {text: text}}
            hostile.make("PUT", "/store/items", item)
            response = hostile.client.get("/store/items", params={"namespace": f"stored.{text}", "key": text})
            assert response.json()["value"] == {text: text}
