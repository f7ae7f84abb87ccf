"""Keys of requests that are carried out once. Both steps belong to the transaction of the request's effect, the claim first.

The primary key makes requests under one key take turns: a claim waits for the transaction that holds the key, and then
either finds its answer or, if that was rolled back, succeeds.
"""

from __future__ import annotations

from typing import Any

from langgraph_serverless.domain.idempotency import Answer, IdempotencyKey
from langgraph_serverless.errors import ConflictError
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import blob

_SQL = load_queries(__file__)
CLAIM_KEY = _SQL["claim_key"]
USED_KEY = _SQL["used_key"]
KEEP_ANSWER = _SQL["keep_answer"]


async def claim(
    connection: Connection, key: IdempotencyKey, *, tenant: str, scope: str, retention: float
) -> Answer | None:
    """None if the key is this transaction's now, or else the answer of the same request before.

    Args:
        scope: who is calling, of the tenant.
        retention: seconds for which the answer is kept.

    Raises:
        ConflictError: if another request has used the key.
    """
    parameters = _parameters(key, tenant, scope)
    claimed = await connection.execute(
        CLAIM_KEY, {**parameters, "fingerprint": key.fingerprint, "retention": retention}
    )
    if await claimed.fetchone() is not None:
        return None
    row = await (await connection.execute(USED_KEY, parameters)).fetchone()
    if row is None or row["fingerprint"] != key.fingerprint:
        raise ConflictError(
            f"The Idempotency-Key '{key.key}' has been used for another request: its body or its path is not the same"
        )
    return Answer(status=row["status"], headers=row["headers"], body=row["response"])


async def keep(connection: Connection, key: IdempotencyKey, answer: Answer, *, tenant: str, scope: str) -> None:
    """Store the answer of the request that has claimed the key in this transaction."""
    stored = {
        "status": answer.status,
        "headers": jsonb(dict(answer.headers)),
        "response": blob("idempotency", "response", answer.body),
    }
    await connection.execute(KEEP_ANSWER, {**_parameters(key, tenant, scope), **stored})


def _parameters(key: IdempotencyKey, tenant: str, scope: str) -> dict[str, Any]:
    return {"tenant": tenant, "route": key.route, "scope": scope, "key": key.key}
