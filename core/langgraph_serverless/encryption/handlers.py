"""The project's encryption handlers (``encryption.path`` of langgraph.json), called and checked.

Promises that a handler is given copies, so that what it does to them in place changes nothing else; that it gets the context with which the
data was encrypted; that an encryptor which adds or drops keys is refused; and that nothing of what a handler raises, which may hold data
or keys, gets into an answer or a log: the class of the error and the line do.

Relies on the object alone (``get_json_encryptor`` and its neighbours) and imports the SDK for the context's class only, at the first call.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import orjson

from langgraph_serverless.domain.encryption import Sealed
from langgraph_serverless.errors import EncryptionError, ProjectError
from langgraph_serverless.telemetry import logger

Handler = Callable[[Any, Any], Awaitable[Any]]

#: Seconds after which a handler has failed: it holds a connection, and a transaction ends after 15 s of silence.
LONGEST_CALL = 10.0
_PAIRS = (("_json_encryptor", "_json_decryptor", "json"), ("_blob_encryptor", "_blob_decryptor", "blob"))


class Handlers:
    """What the project has registered."""

    def __init__(self, encryption: Any, *, key: str) -> None:
        """``key`` says in errors where the object is named.

        Raises:
            ProjectError: it is no ``Encryption``, or has half of a pair of handlers.
        """
        if not all(hasattr(encryption, name) for pair in _PAIRS for name in pair[:2]):
            raise ProjectError(f"{key} must name a langgraph_sdk.Encryption, not {type(encryption).__name__}.")
        for encryptor, decryptor, kind in _PAIRS:
            if (getattr(encryption, encryptor) is None) != (getattr(encryption, decryptor) is None):
                missing = "decrypt" if getattr(encryption, decryptor) is None else "encrypt"
                raise ProjectError(f"{key}: there is no @encryption.{missing}.{kind}; it needs both, or neither.")
        self._encrypt_json: Handler | None = encryption._json_encryptor
        self._decrypt_json: Handler | None = encryption._json_decryptor
        self._encrypt_blob: Handler | None = encryption._blob_encryptor
        self._decrypt_blob: Handler | None = encryption._blob_decryptor
        self._context: Handler | None = getattr(encryption, "_context_handler", None)
        if self._encrypt_json is None and self._encrypt_blob is None:
            raise ProjectError(f"{key} has no handlers: register @encryption.encrypt.json or @encryption.encrypt.blob.")
        if self._encrypt_blob is None:
            logger.warning("%s has no @encryption.encrypt.blob: it does not encrypt checkpoints", key)

    @property
    def documents(self) -> bool:
        """Whether JSON is encrypted."""
        return self._encrypt_json is not None

    @property
    def blobs(self) -> bool:
        return self._encrypt_blob is not None

    async def context_for(self, user: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What is to be stored beside the data of this user's requests."""
        if self._context is None:
            return dict(metadata)
        said = await _call(self._context, "context", user, _context(Sealed("", "", metadata), bare=True))
        try:
            return _plain(said if isinstance(said, dict) else _refuse("The context handler must return a dict."))
        except TypeError:
            return _refuse("The context handler's dict must be JSON.")

    async def encrypt_document(self, sealed: Sealed, document: Mapping[str, Any]) -> dict[str, Any]:
        """The same keys with encrypted values."""
        assert self._encrypt_json is not None
        found = await _call(self._encrypt_json, "encrypt.json", _context(sealed), _plain(document))
        if not isinstance(found, dict):
            _refuse("The handler encrypt.json must return a dict.")
        if found.keys() != document.keys():
            # names of keys may be data themselves, as in a map of customers
            more, less = len(found.keys() - document.keys()), len(document.keys() - found.keys())
            _refuse(
                f"The handler encrypt.json must keep the keys of what it encrypts: of the {sealed.model}'s {sealed.field} it has"
                f" added {more} and dropped {less}. Put what belongs to a value into the value."
            )
        try:
            return _plain(found)
        except TypeError:
            return _refuse("The values that the handler encrypt.json returns must be JSON.")

    async def decrypt_document(
        self, sealed: Sealed, document: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The decrypted values, and what the handler wants to be stored in their place."""
        if self._decrypt_json is None:
            _refuse("There is encrypted data, and the project's encryption has no handler decrypt.json for it.")
        said = await _call(self._decrypt_json, "decrypt.json", _context(sealed), _plain(document))
        found, instead = _result(said)
        for each in (found, instead):
            if each is not None and (not isinstance(each, dict) or each.keys() != document.keys()):
                _refuse("The handler decrypt.json must return a dict with the keys that it was given.")
        return found, None if instead is None else _plain(instead)

    async def encrypt_blob(self, sealed: Sealed, data: bytes) -> bytes:
        assert self._encrypt_blob is not None
        found = await _call(self._encrypt_blob, "encrypt.blob", _context(sealed), data)
        return bytes(found) if isinstance(found, bytes | bytearray) else _refuse("encrypt.blob must return bytes.")

    async def decrypt_blob(self, sealed: Sealed, data: bytes) -> tuple[bytes, bytes | None]:
        if self._decrypt_blob is None:
            _refuse("There are encrypted blobs, and the project's encryption has no handler decrypt.blob for them.")
        found, instead = _result(await _call(self._decrypt_blob, "decrypt.blob", _context(sealed), data))
        if not isinstance(found, bytes | bytearray) or not isinstance(instead, bytes | bytearray | None):
            _refuse("The handler decrypt.blob must return bytes.")
        return bytes(found), None if instead is None else bytes(instead)


def _context(sealed: Sealed, *, bare: bool = False) -> Any:
    from langgraph_sdk.encryption.types import EncryptionContext  # noqa: PLC0415 - not before something is encrypted

    metadata = _plain(sealed.metadata)
    return EncryptionContext(None if bare else sealed.model, metadata, None if bare else sealed.field)


def _result(said: Any) -> tuple[Any, Any]:
    """By its attributes: the SDK has had ``DecryptResult`` since 0.4 only."""
    if hasattr(said, "plaintext") and hasattr(said, "replacement"):
        return said.plaintext, said.replacement
    return said, None


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = orjson.loads(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))
    return copy


async def _call(handler: Handler, name: str, *arguments: Any) -> Any:
    try:
        async with asyncio.timeout(LONGEST_CALL):
            return await handler(*arguments)
    except Exception as error:
        (*_, frame) = traceback.extract_tb(error.__traceback__)
        where = f"{frame.filename}, line {frame.lineno}"
        logger.error(
            "the encryption handler %s raised %s at %s",
            name,
            type(error).__name__,
            where,
            extra={"action": "encryption_failed"},
        )
        failed = f"The project's encryption handler {name} has failed ({type(error).__name__})."
    raise EncryptionError(failed)


def _refuse(sentence: str) -> NoReturn:
    logger.error("%s", sentence, extra={"action": "encryption_failed"})
    raise EncryptionError(sentence)
