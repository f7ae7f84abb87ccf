"""Envelopes, handlers and keys, without a database; with one they are in `tests/contract/test_encryption.py`."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph_sdk import Encryption, EncryptionContext
from langgraph_sdk.encryption.types import DecryptResult

from langgraph_serverless.domain.encryption import (
    CONTEXT,
    MAGIC,
    VALUE,
    blob_with,
    current_scope,
    encrypting_for,
    parts_of,
    with_scope,
)
from langgraph_serverless.encryption import handlers
from langgraph_serverless.encryption.aes import AesKeys
from langgraph_serverless.encryption.cipher import ProjectCipher
from langgraph_serverless.encryption.handlers import Handlers
from langgraph_serverless.errors import EncryptionError, ProjectError, SettingsError
from langgraph_serverless.settings import Settings


def encryption() -> Encryption:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is in beta
        return Encryption()


def reversing(skipped: frozenset[str] = frozenset({"owner"})) -> Encryption:
    """Handlers whose work is easy to see: text in a list, backwards."""
    made = encryption()

    @made.encrypt.json
    async def encrypt(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
        return {key: value if key in skipped else [ctx.metadata, value] for key, value in data.items()}

    @made.decrypt.json
    async def decrypt(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
        assert all(value[0] == ctx.metadata for value in data.values())
        return {key: value[1] for key, value in data.items()}

    @made.encrypt.blob
    async def encrypt_blob(ctx: EncryptionContext, blob: bytes) -> bytes:
        return b"r" + blob[::-1]

    @made.decrypt.blob
    async def decrypt_blob(ctx: EncryptionContext, blob: bytes) -> bytes:
        return blob[:0:-1]

    return made


def cipher(made: Encryption | None = None, aes: AesKeys | None = None) -> ProjectCipher:
    return ProjectCipher(Handlers(made or reversing(), key="encryption.path"), aes)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from([VALUE, CONTEXT]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(document=st.dictionaries(st.text(max_size=3) | st.sampled_from(["owner", "run_id"]), PLAIN, max_size=4))
async def test_any_document_comes_back(document: dict[str, Any]) -> None:
    made = cipher()
    sealed = await made.seal_document("thread", "metadata", document)
    assert sealed.keys() == document.keys()
    assert await made.open_document(sealed) == document
    for key in document.keys() - {"owner", "run_id"}:
        assert sealed[key].keys() == {VALUE, CONTEXT}


@settings(max_examples=100, deadline=None)
@given(
    one=st.dictionaries(st.sampled_from("abcd"), PLAIN, max_size=4),
    two=st.dictionaries(st.sampled_from("abcd"), PLAIN, max_size=4),
)
async def test_merging_what_is_encrypted_is_merging(one: dict[str, Any], two: dict[str, Any]) -> None:
    """As Postgres merges it; for whoever each part has been encrypted, or before there was encryption."""
    made = cipher()
    with encrypting_for({"tenant": 1}):
        first = await made.seal_document("thread", "metadata", one)
    with encrypting_for({"tenant": 2}):
        second = await made.seal_document("thread", "metadata", two)
    assert await made.open_document({**first, **second}) == {**one, **two}


@pytest.mark.parametrize("value", ["text", 7, ["a", {"b": None}], True])
async def test_what_is_no_object_is_encrypted_too(value: Any) -> None:
    sealed = await cipher().seal_document("run", "output", value)
    assert sealed[VALUE] == [{}, value]
    assert await cipher().open_document(sealed) == value


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200))
async def test_any_blob_comes_back(data: bytes) -> None:
    for made in (cipher(), cipher(aes=AesKeys(b"k" * 16)), ProjectCipher(None, AesKeys(b"k" * 32))):
        sealed = await made.seal_blob("checkpoint", "blob", data)
        assert sealed.startswith(MAGIC)
        assert await made.open_blob(sealed) == data
    assert parts_of(blob_with(b"x", {"a": 1}, data)) == (b"x", {"a": 1}, data)


async def test_a_key_of_the_environment_is_for_checkpoints_alone() -> None:
    made = ProjectCipher(None, AesKeys(os.urandom(24)))
    assert await made.seal_blob("run", "events", b"said") == b"said"
    assert await made.seal_document("thread", "metadata", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("context", [None, 5, {"model": "thread", "field": "metadata", "metadata": {}}])
async def test_what_a_client_sends_is_never_opened(context: Any) -> None:
    document = {"a": 1, "looks": {VALUE: "x", CONTEXT: context}}
    # processes without graphs do not have the environment's key, and must read the same
    for made in (ProjectCipher(None, AesKeys(os.urandom(32))), ProjectCipher(None, None)):
        assert await made.seal_document("thread", "metadata", document) == document
        assert await made.open_document(document) == document
    only_blobs = encryption()
    only_blobs.encrypt.blob(_unused)
    only_blobs.decrypt.blob(_unused)
    made = cipher(only_blobs)
    sealed = await made.seal_document("thread", "metadata", document)
    assert await made.open_document({**sealed, "merged": 1}) == {**document, "merged": 1}
    # merged with another one, it would look encrypted as a whole
    with pytest.raises(EncryptionError, match="keeps for itself"):
        await made.seal_document("thread", "metadata", {VALUE: 1})


async def _unused(ctx: EncryptionContext, blob: bytes) -> bytes:
    raise AssertionError


async def test_the_servers_keys_are_plain_where_it_looks_for_them_alone() -> None:
    document = {"source": "a letter", "step": 1, "parents": {}, "created_by": "me", "graph_id": "g"}
    plain = {"thread": {"graph_id"}, "assistant": {"graph_id", "created_by"}}
    plain["checkpoint"] = document.keys() - {"created_by"}
    for model, keys in plain.items():
        sealed = await cipher().seal_document(model, "metadata", document)
        assert {key for key, value in sealed.items() if value == document[key]} == keys, model
        assert await cipher().open_document(sealed) == document


async def test_what_is_derived_from_documents_is_as_secret_as_they_are() -> None:
    """Events and kept answers where the project has no handlers for blobs."""
    made = encryption()
    whole = reversing()
    made.encrypt.json(whole.get_json_encryptor())
    made.decrypt.json(whole.get_json_decryptor())
    sealed = await cipher(made).seal_blob("run", "events", b"said")
    assert b"said" not in sealed
    assert await cipher(made).open_blob(sealed) == b"said"
    assert await cipher(made).seal_blob("checkpoint", "blob", b"said") == b"said"


@pytest.mark.parametrize("cut", [len(MAGIC), len(MAGIC) + 3, -1, -20])
async def test_damaged_blobs_are_refused(cut: int) -> None:
    made = ProjectCipher(None, AesKeys(b"k" * 32))
    sealed = await made.seal_blob("checkpoint", "blob", b"something that is long enough")
    with pytest.raises(EncryptionError, match=r"damaged|another key|no encryption"):
        await made.open_blob(sealed[:cut])


@pytest.mark.parametrize("data", [b"", b"said", MAGIC + b"said"])
async def test_a_blob_that_the_handler_leaves_as_it_is(data: bytes) -> None:
    """How encryption is switched on beside processes that have none: first handlers that can read, then those that write."""
    made = encryption()

    @made.encrypt.blob
    async def encrypt(ctx: EncryptionContext, blob: bytes) -> bytes:
        return blob

    @made.decrypt.blob
    async def decrypt(ctx: EncryptionContext, blob: bytes) -> bytes:
        return blob[:0:-1] if blob.startswith(b"r") else blob

    first = cipher(made)
    sealed = await first.seal_blob("checkpoint", "blob", data)
    assert (sealed == data) == (not data.startswith(MAGIC))
    assert await first.open_blob(sealed) == data
    assert await first.open_blob(await cipher().seal_blob("checkpoint", "blob", b"said")) == b"said"


async def test_a_new_key_is_known_everywhere_before_anything_is_written_with_it() -> None:
    old, new = os.urandom(16), os.urandom(32)
    before, after = AesKeys(old, [new]), AesKeys(new, [old])
    for one, other in ((before, after), (after, before)):
        sealed = await ProjectCipher(None, one).seal_blob("checkpoint", "blob", b"said")
        assert await ProjectCipher(None, other).open_blob(sealed) == b"said"


async def test_another_key_is_told_from_damage() -> None:
    old, new = os.urandom(32), os.urandom(32)
    sealed = await ProjectCipher(None, AesKeys(old)).seal_blob("checkpoint", "blob", b"said")
    with pytest.raises(EncryptionError, match="encrypted with another key"):
        await ProjectCipher(None, AesKeys(new)).open_blob(sealed)
    both = ProjectCipher(None, AesKeys(new, [old]))
    assert await both.open_blob(sealed) == b"said"
    renewed = await both.renew_blob("checkpoint", "blob", sealed)
    assert await ProjectCipher(None, AesKeys(new)).open_blob(renewed) == b"said"
    assert await both.renew_blob("checkpoint", "blob", renewed) == renewed
    with pytest.raises(EncryptionError, match="which is not set"):
        await cipher().open_blob(sealed)


@pytest.mark.parametrize("length", [1, 15, 17, 31, 33])
def test_a_key_of_another_length_is_refused_without_being_shown(length: int) -> None:
    with pytest.raises(SettingsError, match=f"must be 16, 24 or 32 bytes long .* and has {length}") as caught:
        Settings.from_env({"DATABASE_URI": "postgresql://x/y", "LANGGRAPH_AES_KEY": "k" * length})
    assert "kk" not in str(caught.value)


def half(made: Encryption) -> Encryption:
    @made.encrypt.json
    async def encrypt(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
        return data

    return made


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (object, "must name a langgraph_sdk.Encryption, not object"),
        (encryption, "has no handlers"),
        (lambda: half(encryption()), "there is no @encryption.decrypt.json"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ProjectError, match=says):
        Handlers(make(), key="encryption.path")


async def test_replacements_are_stored_when_everything_is_encrypted_anew() -> None:
    made = half(encryption())

    @made.decrypt.json
    async def decrypt(ctx: EncryptionContext, data: dict[str, Any]) -> DecryptResult[dict[str, Any]]:
        return DecryptResult(dict.fromkeys(data, "plain"), dict.fromkeys(data, "new"))

    stored = {"a": {VALUE: "old", CONTEXT: {"model": "m", "field": "f", "metadata": {"t": 1}}}, "b": 1}
    assert await cipher(made).open_document(stored) == {"a": "plain", "b": 1}
    renewed = await cipher(made).renew_document("m", "f", stored)
    assert renewed == {"a": {VALUE: "new", CONTEXT: {"model": "m", "field": "f", "metadata": {"t": 1}}}, "b": 1}


@pytest.mark.parametrize("how", ["raises", "hangs", "returns text", "is damaged"])
async def test_what_a_handler_does_wrong_is_said_without_its_words(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = half(encryption())
    monkeypatch.setattr(handlers, "LONGEST_CALL", 0.05)

    @made.decrypt.json
    async def decrypt(ctx: EncryptionContext, data: dict[str, Any]) -> Any:
        if how == "raises":
            raise ValueError("canary-of-a-key")
        if how == "hangs":
            await asyncio.sleep(60)
        return "canary-of-a-key" if how == "returns text" else {key: {1, 2} for key in data}

    stored = {"a": {VALUE: "old", CONTEXT: {"model": "m", "field": "f", "metadata": {}}}}
    with pytest.raises(EncryptionError) as caught:
        await cipher(made).open_document(stored if how != "is damaged" else {**stored, "b": {VALUE: 1, CONTEXT: 1}})
    assert "canary" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__} {caplog.text}"
    assert "EncryptionError" not in caplog.text
    assert ("decrypt.json" in str(caught.value)) == (how != "is damaged")


async def test_errors_in_our_own_words_are_never_given_to_a_handler() -> None:
    made = cipher()
    for error in ({"error": "EncryptionError", "message": "x"}, {"error": "RunAttemptsExhausted", "message": "x"}):
        assert await made.seal_document("run", "error", error) == error
        assert await made.seal_document("run", "output", {"__error__": error}) == {"__error__": error}
    other = {"error": "ValueError", "message": "x"}
    sealed = await made.seal_document("run", "error", other)
    assert sealed["error"] == "ValueError"
    assert VALUE in sealed["message"]


def test_the_scope_is_kept_with_what_is_executed_later() -> None:
    assert with_scope({"a": 1}) == {"a": 1}
    with encrypting_for({"tenant": 1}):
        assert with_scope({"a": 1}) == {"a": 1, "encryption_context": {"tenant": 1}}
        with encrypting_for(None):
            assert current_scope() == {}
