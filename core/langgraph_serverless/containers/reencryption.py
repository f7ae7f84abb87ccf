"""What it takes to encrypt everything anew: the project's encryption without its graphs, and the database as it is stored."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph_serverless.encryption.aes import AesKeys
from langgraph_serverless.encryption.cipher import ProjectCipher
from langgraph_serverless.encryption.handlers import Handlers
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.project import ProjectConfig
from langgraph_serverless.execution.project_code import load_object
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.reencryption import StoredRows
from langgraph_serverless.services.reencryption import ReencryptionReport, ReencryptionService
from langgraph_serverless.settings import Settings


def cipher_of(project: ProjectConfig, key: bytes = b"", old: Sequence[bytes] = ()) -> ProjectCipher:
    """What the project, which has been opened, and the environment encrypt with.

    Raises:
        ProjectError: nothing at all.
    """
    handlers = None
    if project.encryption is not None:
        where = "encryption.path"
        handlers = Handlers(load_object(project, project.encryption, key=where), key=f"{project.config_path}: {where}")
    if handlers is None and not key:
        raise ProjectError(
            f"Nothing is encrypted: {project.config_path} has no 'encryption', and LANGGRAPH_AES_KEY is not set."
        )
    return ProjectCipher(handlers, AesKeys(key, old) if key else None)


async def reencrypt(project: ProjectConfig, settings: Settings, *, everything: bool) -> ReencryptionReport:
    """Go through all tables once; see ``services/reencryption.py``."""
    cipher = cipher_of(project, settings.aes_key, settings.aes_old_keys)
    database = Database(settings)
    try:
        return await ReencryptionService(StoredRows(database.as_system()), cipher).renew(everything=everything)
    finally:
        await database.aclose()
