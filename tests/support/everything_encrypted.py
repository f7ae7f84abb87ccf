"""``EVERYTHING_ENCRYPTED=1 pytest ...`` runs any tests in this process with encryption, whatever their projects say.

A pytest plugin (``tests/conftest.py`` names it). Its handlers leave plain what tests search by: metadata, and items of the store. What then
fails looks behind the server's back, at rows or at objects inside; such a test is not wrong, and is not to be mended.
"""

from __future__ import annotations

import base64
import json
import os
import warnings
from functools import cached_property
from typing import Any

from langgraph_sdk import Encryption, EncryptionContext

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.graphs import GraphContainer
from langgraph_serverless.encryption.cipher import ProjectCipher
from langgraph_serverless.encryption.handlers import Handlers


def handlers(_: ApiContainer) -> Handlers:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is in beta
        made = Encryption()

    @made.encrypt.json
    async def encrypt(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
        if ctx.field == "metadata" or ctx.model == "store":
            return data
        return {key: base64.b64encode(json.dumps(value).encode()[::-1]).decode() for key, value in data.items()}

    @made.decrypt.json
    async def decrypt(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
        return {key: json.loads(base64.b64decode(value)[::-1]) for key, value in data.items()}

    @made.encrypt.blob
    async def encrypt_blob(ctx: EncryptionContext, blob: bytes) -> bytes:
        return blob[::-1]

    @made.decrypt.blob
    async def decrypt_blob(ctx: EncryptionContext, blob: bytes) -> bytes:
        return blob[::-1]

    return Handlers(made, key="EVERYTHING_ENCRYPTED")


def cipher(container: ApiContainer) -> ProjectCipher:
    return ProjectCipher(container.encryption_handlers, None)


def pytest_configure() -> None:
    if not os.environ.get("EVERYTHING_ENCRYPTED"):
        return
    for kind in (ApiContainer, GraphContainer):
        for name, make in (("encryption_handlers", handlers), ("cipher", cipher)):
            made: Any = cached_property(make)
            made.__set_name__(kind, name)
            setattr(kind, name, made)
