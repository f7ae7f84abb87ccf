"""Writes anew what is encrypted as it should not be any more: after a key has changed, or encryption has been switched on.

Promises that nobody notices: readers see the same data before and after, whoever writes wins, and it may be stopped and started again at any
time. What is written anew is what a decrypt handler wants replaced (``DecryptResult.replacement``) and what was never encrypted, with the
context of nobody. ``everything`` decrypts and encrypts the rest too, each value with the context that it has.

What does not live long is left to its end: webhooks (a week), answers that are kept for their keys (a day), events (minutes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from langgraph_serverless.errors import EncryptionError
from langgraph_serverless.persistence.reencryption import TABLES, StoredRows, Table
from langgraph_serverless.persistence.sealing import renew_checkpoint
from langgraph_serverless.telemetry import logger


class Renewing(Protocol):
    """A cipher that says how something is to be stored now."""

    async def renew_document(self, model: str, field: str, document: Any, *, everything: bool = False) -> Any: ...

    async def renew_blob(self, model: str, field: str, data: bytes, *, everything: bool = False) -> bytes: ...


@dataclass(slots=True)
class Renewed:
    """What became of a table's rows."""

    looked_at: int = 0
    renewed: int = 0
    #: Written by somebody else meanwhile.
    passed: int = 0
    #: Could not be decrypted, and are as they were.
    failed: int = 0


@dataclass(slots=True)
class ReencryptionReport:
    """By the names of tables."""

    tables: dict[str, Renewed] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(table.failed for table in self.tables.values())


class ReencryptionService:
    """An operator's command; no route leads here."""

    def __init__(self, rows: StoredRows, cipher: Renewing) -> None:
        self._rows = rows
        self._cipher = cipher

    async def renew(self, *, everything: bool = False) -> ReencryptionReport:
        """Go through all tables.

        Raises:
            UnavailableError: the database is out of reach; what has been renewed is.
        """
        report = ReencryptionReport()
        for table in TABLES:
            did = report.tables[table.name] = Renewed()
            async for batch in self._rows.batches(table):
                for row in batch:
                    await self._renew(table, row, did, everything=everything)
        return report

    async def _renew(self, table: Table, row: Mapping[str, Any], did: Renewed, *, everything: bool) -> None:
        did.looked_at += 1
        try:
            new = await self._renewed(table, row, everything=everything)
        except EncryptionError as error:
            did.failed += 1
            about = {name: str(row[name]) for name in table.key if name not in ("prefix", "key")}
            logger.error("cannot be encrypted anew: %s", error, extra={"action": "reencrypt_failed", **about})
            return
        if all(row[column] == value for column, value in new.items()):
            return
        if await self._rows.replace(table, row, new):
            did.renewed += 1
        else:
            did.passed += 1

    async def _renewed(self, table: Table, row: Mapping[str, Any], *, everything: bool) -> dict[str, Any]:
        new: dict[str, Any] = {}
        for column, name in table.documents.items():
            if column == "checkpoint":
                new[column] = await renew_checkpoint(self._cipher, row[column], everything=everything)
            elif row[column] is not None:
                new[column] = await self._cipher.renew_document(table.model, name, row[column], everything=everything)
        for column in table.blobs:
            if row[column] is not None:
                new[column] = await self._cipher.renew_blob(table.model, column, row[column], everything=everything)
        return new
