"""The store over HTTP: `../contract/store.md`, with the SDK and by hand."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

pytestmark = pytest.mark.usefixtures("clean_database")


async def put(http: httpx.AsyncClient, namespace: list[str], key: str, value: dict[str, Any], **more: Any) -> None:
    body = {"namespace": namespace, "key": key, "value": value, **more}
    response = await http.put("/store/items", json=body)
    assert response.status_code == 204, response.text


async def search(http: httpx.AsyncClient, **body: Any) -> list[dict[str, Any]]:
    response = await http.post("/store/items/search", json=body)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


async def keys(http: httpx.AsyncClient, **body: Any) -> list[str]:
    return [item["key"] for item in await search(http, **body)]


async def test_an_item_comes_back_as_it_was_put(sdk: LangGraphClient) -> None:
    value = {"text": "red apple", "n": 1.5, "deep": {"a": [None, True]}, "ünï": "✓"}
    await sdk.store.put_item(["users", "u1"], "k1", value)
    item = await sdk.store.get_item(["users", "u1"], "k1")
    assert set(item) == {"namespace", "key", "value", "created_at", "updated_at"}
    assert (item["namespace"], item["key"], item["value"]) == (["users", "u1"], "k1", value)
    assert item["created_at"] == item["updated_at"]
    assert item["created_at"].endswith("+00:00")


async def test_putting_again_replaces_the_value_and_keeps_the_creation_time(sdk: LangGraphClient) -> None:
    await sdk.store.put_item(["a"], "k", {"n": 1})
    first = await sdk.store.get_item(["a"], "k")
    await sdk.store.put_item(["a"], "k", {"m": 2}, index=False)
    second = await sdk.store.get_item(["a"], "k")
    assert second["value"] == {"m": 2}
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]


async def test_a_miss_is_null(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    await sdk.store.put_item(["a"], "k", {})
    response = await http.get("/store/items", params={"namespace": "a", "key": "other"})
    assert (response.status_code, response.json()) == (200, None)
    await sdk.store.delete_item(["a"], "k")
    assert await sdk.store.get_item(["a"], "k") is None
    await sdk.store.delete_item(["a"], "k")


async def test_an_empty_key_is_a_key(http: httpx.AsyncClient) -> None:
    await put(http, ["a"], "", {"n": 1})
    response = await http.get("/store/items", params={"namespace": "a", "key": ""})
    assert response.json()["value"] == {"n": 1}


@pytest.mark.parametrize("label", ["", "a.b"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/store/items", {"namespace": ["x", "LABEL"], "key": "k", "value": {}}),
        ("DELETE", "/store/items", {"namespace": ["LABEL"], "key": "k"}),
        ("POST", "/store/items/search", {"namespace_prefix": ["LABEL"]}),
        ("POST", "/store/namespaces", {"prefix": ["LABEL"]}),
        ("POST", "/store/namespaces", {"suffix": ["LABEL"]}),
    ],
)
async def test_labels_are_checked(
    http: httpx.AsyncClient, method: str, path: str, body: dict[str, Any], label: str
) -> None:
    wrong = {
        key: [label if part == "LABEL" else part for part in value] if isinstance(value, list) else value
        for key, value in body.items()
    }
    response = await http.request(method, path, json=wrong)
    assert response.status_code == 422
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == f"Namespace label '{label}' must be a non-empty string without periods"


async def test_get_needs_namespace_and_key(http: httpx.AsyncClient) -> None:
    response = await http.get("/store/items", params={"namespace": "a"})
    assert (response.status_code, response.json()) == (400, {"error": "Key is required"})
    response = await http.get("/store/items", params={"key": "k"})
    assert (response.status_code, response.headers["content-type"]) == (422, "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"namespace": [], "key": "k", "value": {}}, 400, "Namespace cannot be empty."),
        (
            {"namespace": ["langgraph", "x"], "key": "k", "value": {}},
            400,
            "Root label for namespace cannot be \"langgraph\". Got: ('langgraph', 'x')",
        ),
        ({"namespace": ["a"], "key": "k"}, 422, '"value" is a required property'),
        ({"namespace": ["a"], "value": {}}, 422, '"key" is a required property'),
        ({"key": "k", "value": {}}, 422, '"namespace" is a required property'),
        ({"namespace": ["a"], "key": "k", "value": [1]}, 422, '[1] is not of type "object"'),
        ({"namespace": "a", "key": "k", "value": {}}, 422, '"a" is not of type "array"'),
        ({"namespace": [1], "key": "k", "value": {}}, 422, '1 is not of type "string"'),
        ({"namespace": ["a"], "key": 1, "value": {}}, 422, '1 is not of type "string"'),
        ({"namespace": ["a"], "key": "k", "value": {}, "index": True}, 422, "true is not"),
        ({"namespace": ["a"], "key": "k", "value": {}, "index": 0}, 422, "0 is not"),
        ({"namespace": ["a"], "key": "k", "value": {}, "ttl": "1"}, 422, '"1" is not'),
        ({"namespace": ["a"], "key": "k", "value": {}, "ttl": True}, 422, "true is not"),
        ({"namespace": ["a"], "key": "k", "value": {}, "ttl": -1}, 422, "-1 is less than the minimum of 0"),
        ({"namespace": ["a"], "key": "k", "value": {}, "ttl": 1e300}, 422, "1e+300 is greater"),
        ({"namespace": ["a\x00"], "key": "k", "value": {}}, 422, '"a\\u0000" holds a NUL character'),
        ({"namespace": ["a"], "key": "\x00", "value": {}}, 422, '"\\u0000" holds a NUL character'),
    ],
)
async def test_what_put_refuses(http: httpx.AsyncClient, body: dict[str, Any], status: int, detail: str) -> None:
    response = await http.put("/store/items", json=body)
    assert response.status_code == status
    assert response.json()["detail"].startswith(detail)


async def test_delete_needs_a_body(http: httpx.AsyncClient) -> None:
    response = await http.delete("/store/items")
    assert (response.status_code, response.json()) == (422, {"detail": "Invalid JSON in request body"})
    response = await http.request("DELETE", "/store/items", json={"key": "k"})
    assert response.status_code == 204


async def test_a_prefix_matches_whole_labels(http: httpx.AsyncClient) -> None:
    for namespace in (["foo"], ["foo", "bar"], ["foobar"], ["f_o"], ["foo%"]):
        await put(http, namespace, "/".join(namespace), {})
    assert await keys(http, namespace_prefix=["foo"]) == ["foo/bar", "foo"]
    assert await keys(http, namespace_prefix=["f_o"]) == ["f_o"]
    assert await keys(http, namespace_prefix=["foo%"]) == ["foo%"]
    everything = ["foo%", "f_o", "foobar", "foo/bar", "foo"]
    assert await keys(http, namespace_prefix=[]) == everything
    assert await keys(http, namespace_prefix=None) == everything
    assert await keys(http) == everything


async def test_search_lists_by_last_update(sdk: LangGraphClient) -> None:
    for key in ("k1", "k2", "k3"):
        await sdk.store.put_item(["s"], key, {"n": key})
    await sdk.store.put_item(["s"], "k1", {"n": "new"})
    found = await sdk.store.search_items(["s"], query="anything")
    assert [item["key"] for item in found["items"]] == ["k1", "k3", "k2"]
    assert {item["score"] for item in found["items"]} == {None}
    found = await sdk.store.search_items(["s"], limit=1, offset=1)
    assert [item["key"] for item in found["items"]] == ["k3"]


@pytest.mark.parametrize(("limit", "offset", "count"), [(0, 0, 3), (-1, 0, 0), (2**70, -5, 3), (10, 2**70, 0)])
async def test_search_takes_any_limit(http: httpx.AsyncClient, limit: int, offset: int, count: int) -> None:
    for key in ("k1", "k2", "k3"):
        await put(http, ["s"], key, {})
    if max(limit, offset) > 2**63:
        limit, offset = min(limit, 2**62), min(offset, 2**62)
    assert len(await keys(http, limit=limit, offset=offset)) == count


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"n": 10}, ["ten"]),
        ({"n": {"$eq": 10}}, ["ten"]),
        ({"n": {"$ne": 10}}, ["bare", "nine", "null", "text"]),
        ({"n": {"$gt": 9}}, ["ten"]),
        ({"n": {"$gte": 9}}, ["nine", "ten"]),
        ({"n": {"$lt": 10}}, ["nine"]),
        ({"n": {"$lte": 10}}, ["nine", "ten"]),
        ({"n": {"$gt": 1, "$lt": 10}}, ["nine"]),
        ({"n": {"$gt": "a"}}, ["text"]),
        ({"n": None}, ["bare", "null"]),
        ({"n": {"$eq": None}}, ["bare", "null"]),
        ({"n": {"$ne": None}}, ["nine", "ten", "text"]),
        ({"o": {"a": 1}}, ["bare"]),
        ({"o": {}}, ["bare"]),
        ({"o": {"a": {"$gte": 1}}}, ["bare"]),
        ({"o": {"b": None}}, ["bare"]),
        ({"n": {"a": 1}}, []),
        ({"o": {"a": 1}, "n": 1}, []),
        ({"missing": {"$gt": 1}}, []),
        ({"missing": {"$ne": 1}}, ["bare", "nine", "null", "ten", "text"]),
        ({"n') OR true --": 1}, []),
    ],
)
async def test_filters(http: httpx.AsyncClient, wanted: dict[str, Any], expected: list[str]) -> None:
    await put(http, ["f"], "nine", {"n": 9})
    await put(http, ["f"], "ten", {"n": 10})
    await put(http, ["f"], "text", {"n": "ten"})
    await put(http, ["f"], "null", {"n": None})
    await put(http, ["f"], "bare", {"o": {"a": 1}})
    assert sorted(await keys(http, filter=wanted)) == expected


async def test_an_unknown_operator_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post("/store/items/search", json={"filter": {"n": {"$bad": 1}}})
    assert (response.status_code, response.json()) == (400, {"detail": "Unsupported operator: $bad"})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, [["a"], ["a", "b"], ["a", "b", "c"], ["a", "c"], ["b"], ["x", "b"]]),
        ({"prefix": ["a"]}, [["a"], ["a", "b"], ["a", "b", "c"], ["a", "c"]]),
        ({"suffix": ["b"]}, [["a", "b"], ["b"], ["x", "b"]]),
        ({"prefix": ["*", "b"]}, [["a", "b"], ["a", "b", "c"], ["x", "b"]]),
        ({"suffix": ["*", "c"]}, [["a", "b", "c"], ["a", "c"]]),
        ({"prefix": ["a"], "suffix": ["c"]}, [["a", "b", "c"], ["a", "c"]]),
        ({"max_depth": 1}, [["a"], ["b"], ["x"]]),
        ({"max_depth": 2, "prefix": ["a"]}, [["a"], ["a", "b"], ["a", "c"]]),
        ({"max_depth": 0}, [[]]),
        ({"limit": 2, "offset": 1}, [["a", "b"], ["a", "b", "c"]]),
        ({"prefix": ["nobody"]}, []),
    ],
)
async def test_namespaces(http: httpx.AsyncClient, body: dict[str, Any], expected: list[list[str]]) -> None:
    for namespace in (["b"], ["a", "b", "c"], ["a"], ["a", "c"], ["x", "b"], ["a", "b"]):
        await put(http, namespace, "k1", {})
        await put(http, namespace, "k2", {})
    response = await http.post("/store/namespaces", json=body)
    assert response.json() == {"namespaces": expected}


async def test_namespaces_with_the_sdk(sdk: LangGraphClient) -> None:
    await sdk.store.put_item(["docs", "user1"], "k", {})
    assert await sdk.store.list_namespaces(["docs"], max_depth=3) == {"namespaces": [["docs", "user1"]]}


async def test_what_has_expired_is_not_shown(http: httpx.AsyncClient) -> None:
    await put(http, ["t"], "k", {"n": 1}, ttl=0)
    await put(http, ["t"], "later", {"n": 1}, ttl=0.5)
    assert (await http.get("/store/items", params={"namespace": "t", "key": "k"})).json() is None
    assert (await http.get("/store/items", params={"namespace": "t", "key": "later"})).json() is not None
    assert await keys(http) == ["later"]
    await put(http, ["only"], "k", {}, ttl=0)
    assert (await http.post("/store/namespaces", json={})).json() == {"namespaces": [["t"]]}
    await put(http, ["t"], "k", {"n": 2})
    item = (await http.get("/store/items", params={"namespace": "t", "key": "k"})).json()
    assert item["value"] == {"n": 2}
    assert item["created_at"] == item["updated_at"]
