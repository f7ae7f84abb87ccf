"""Documents and blobs as they are stored, for whatever the project and the environment have of encryption; see ``domain/encryption.py``.

Handlers encrypt documents and, if there are any for them, blobs; the AES key encrypts blobs where no handler does. Each blob says who has
encrypted it, so both can be read for as long as both are there, and what was written before either of them is read as it is.

Handlers run one document at a time each, all documents of a row or a page at once.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import orjson

from langgraph_serverless.domain.encryption import (
    MAGIC,
    Sealed,
    blob_with,
    current_scope,
    encrypting_for,
    envelopes,
    in_envelope,
    is_envelope,
    parts_of,
    set_apart,
    to_encrypt,
)
from langgraph_serverless.encryption.aes import AesKeys
from langgraph_serverless.encryption.handlers import Handlers
from langgraph_serverless.errors import EncryptionError

#: Who has encrypted a blob.
_HANDLER, _AES, _DOCUMENT = b"h", b"a", b"d"
#: What is no object is given to handlers as an object with this key.
_WHOLE = "value"


class ProjectCipher:
    """See ``ports.Cipher``."""

    def __init__(self, handlers: Handlers | None, aes: AesKeys | None) -> None:
        self._handlers = handlers
        self._aes = aes

    @property
    def documents(self) -> bool:
        return self._handlers is not None and self._handlers.documents

    @property
    def blobs(self) -> bool:
        return self._aes is not None or (self._handlers is not None and self._handlers.blobs)

    async def context_for(self, user: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
        return {} if self._handlers is None else await self._handlers.context_for(user, metadata)

    async def seal_document(self, model: str, field: str, document: Any) -> Any:
        if self._handlers is None or document is None:
            return document
        sealed = Sealed(model, field, current_scope())
        if not isinstance(document, dict):
            found = await self._seal(sealed, {_WHOLE: document}) if self.documents else {}
            return found.get(_WHOLE, document)
        # also where blobs alone are encrypted, as documents are opened there too
        alike = set_apart(document)
        if not self.documents:
            return document | alike if alike else document
        return document | alike | await self._seal(sealed, to_encrypt(model, field, document))

    async def _seal(self, sealed: Sealed, document: Mapping[str, Any]) -> dict[str, Any]:
        """What does not stay as it is: values that the handler has changed, and those that look as if it had."""
        if not document:
            return {}
        assert self._handlers is not None
        # a copy to compare with, as the handler may write into what it is given and may give that back
        before = orjson.loads(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))
        after = await self._handlers.encrypt_document(sealed, before)
        changed = {key: in_envelope(value, sealed) for key, value in after.items() if value != before[key]}
        alike = {
            key: in_envelope(value, None) for key, value in before.items() if key not in changed and is_envelope(value)
        }
        return alike | changed

    async def open_document(self, document: Any) -> Any:
        return (await self._open(document))[0]

    async def _open(self, document: Any) -> tuple[Any, Any]:
        """The document, and what is to be stored in its place, which is the document as it is stored if nothing is."""
        if self._handlers is None:
            # with the environment's key alone: processes without graphs do not have it, and say what is stored
            return document, document
        if is_envelope(document):
            opened, instead = await self._open({_WHOLE: document})
            return opened[_WHOLE], instead[_WHOLE]
        if not isinstance(document, dict) or not (found := envelopes(document)):
            return document, document
        opened, instead = dict(document), dict(document)
        groups: defaultdict[bytes, dict[str, Any]] = defaultdict(dict)
        contexts: dict[bytes, Sealed] = {}
        for key, (sealed, value) in found.items():
            if sealed is None:
                opened[key] = value
                continue
            name = orjson.dumps(sealed.to_json(), option=orjson.OPT_SORT_KEYS)
            contexts[name] = sealed
            groups[name][key] = value
        for name, values in groups.items():
            plain, replaced = await self._handlers.decrypt_document(contexts[name], values)
            opened |= plain
            if replaced is not None:
                instead |= {key: in_envelope(value, contexts[name]) for key, value in replaced.items()}
        return opened, instead

    async def renew_document(self, model: str, field: str, document: Any, *, everything: bool = False) -> Any:
        """The document as it should be stored now; see ``services/reencryption.py``."""
        if not self.documents or document is None:
            return document
        if not isinstance(document, dict) or is_envelope(document):
            renewed = await self.renew_document(model, field, {_WHOLE: document}, everything=everything)
            return renewed[_WHOLE]
        _, instead = await self._open(document)
        if everything:
            instead = await self._sealed_anew(instead)
        plain = {key: value for key, value in instead.items() if not is_envelope(value)}
        return instead | await self._seal(Sealed(model, field, current_scope()), to_encrypt(model, field, plain))

    async def _sealed_anew(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Each encrypted value decrypted and encrypted, for whom it was."""
        opened = await self.open_document(document)
        renewed = dict(document)
        for key, (sealed, _) in envelopes(document).items():
            if sealed is not None:
                renewed[key] = opened[key]
                renewed |= await self._seal(sealed, {key: opened[key]})
        return renewed

    async def seal_blob(self, model: str, field: str, data: bytes) -> bytes:
        if self._handlers is not None and self._handlers.blobs:
            sealed = Sealed(model, field, current_scope())
            encrypted = await self._handlers.encrypt_blob(sealed, data)
            # as with documents: what the handler leaves as it is can be read by processes that have no handlers yet
            plain = encrypted == data and not data.startswith(MAGIC)
            return data if plain else blob_with(_HANDLER, sealed.to_json(), encrypted)
        if self._aes is not None and model == "checkpoint":
            return blob_with(_AES, {"key": self._aes.key_id}, self._aes.encrypt(data))
        if self.documents and model != "checkpoint":
            # what is derived from documents (events, answers that are kept) is as secret as they are
            sealed_text = await self.seal_document(model, field, base64.b64encode(data).decode())
            return blob_with(_DOCUMENT, {}, orjson.dumps(sealed_text))
        return data

    async def open_blob(self, data: bytes) -> bytes:
        return (await self._open_blob(data))[0] if data.startswith(MAGIC) else data

    async def _open_blob(self, blob: bytes) -> tuple[bytes, bytes]:
        scheme, about, data = parts_of(blob)
        if scheme == _AES:
            if self._aes is None:
                raise EncryptionError("A checkpoint was encrypted with LANGGRAPH_AES_KEY, which is not set.")
            plain = self._aes.decrypt(about.get("key", ""), data)
            current = about.get("key") == self._aes.key_id and not (self._handlers and self._handlers.blobs)
            return plain, blob if current else await self.seal_blob("checkpoint", "blob", plain)
        if self._handlers is None:
            raise EncryptionError("There are encrypted blobs, and the project has no encryption to decrypt them with.")
        if scheme == _DOCUMENT:
            return base64.b64decode(await self.open_document(orjson.loads(data))), blob
        sealed = Sealed.from_json(about)
        plain, replaced = await self._handlers.decrypt_blob(sealed, data)
        return plain, blob if replaced is None else blob_with(_HANDLER, sealed.to_json(), replaced)

    async def renew_blob(self, model: str, field: str, data: bytes, *, everything: bool = False) -> bytes:
        """The blob as it should be stored now."""
        if not data.startswith(MAGIC):
            return await self.seal_blob(model, field, data)
        plain, instead = await self._open_blob(data)
        if not everything or instead != data:
            return instead
        scheme, about, _ = parts_of(data)
        with encrypting_for(about.get("metadata") if scheme == _HANDLER else None):
            return await self.seal_blob(model, field, plain)
