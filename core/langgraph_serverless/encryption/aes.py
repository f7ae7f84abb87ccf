"""The simple alternative: one key in the environment (``LANGGRAPH_AES_KEY``) encrypts checkpoints, and nothing else.

AES-GCM with a fresh nonce for each blob. A blob names its key by a fingerprint, so that one of another key is told from a damaged one, and
so that earlier keys (``LANGGRAPH_AES_OLD_KEYS``) still read what they have written. The package ``cryptography`` comes with the project's
dependencies; only processes that read checkpoints need it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from langgraph_serverless.errors import EncryptionError, ProjectError

LENGTHS = (16, 24, 32)
_NONCE = 12
#: What a fingerprint is made for; without it, it would be that of anything else that the key is used for.
_PURPOSE = b"langgraph-serverless"


class AesKeys:
    """The key that encrypts, and those that still decrypt."""

    def __init__(self, key: bytes, old: Sequence[bytes] = ()) -> None:
        """Raises: ProjectError: the package is missing."""
        try:
            from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - the project's dependency
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        except ImportError as error:
            raise ProjectError(
                "LANGGRAPH_AES_KEY needs the package 'cryptography': add it to the project's dependencies."
            ) from error
        self._invalid = InvalidTag
        self._ciphers = {fingerprint(each): AESGCM(each) for each in (*old, key)}
        self.key_id = fingerprint(key)

    def encrypt(self, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._ciphers[self.key_id].encrypt(nonce, data, None)

    def decrypt(self, key_id: str, data: bytes) -> bytes:
        """Raises: EncryptionError: the key is another one, or the data is damaged."""
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise EncryptionError(
                f"A checkpoint was encrypted with another key (fingerprint {key_id}) than LANGGRAPH_AES_KEY"
                f" (fingerprint {self.key_id}); name the earlier one in LANGGRAPH_AES_OLD_KEYS."
            )
        try:
            return cipher.decrypt(data[:_NONCE], data[_NONCE:], None)
        except self._invalid:
            raise EncryptionError("An encrypted checkpoint has been damaged or changed since it was written.") from None


def fingerprint(key: bytes) -> str:
    """Says which key it is, and nothing of it: of a random key nobody finds the rest by trying."""
    return hashlib.blake2b(_PURPOSE, key=key, digest_size=8).hexdigest()
