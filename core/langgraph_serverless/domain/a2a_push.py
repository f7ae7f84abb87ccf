"""Push notifications: where a client wants to be told of its task, in both dialects, and what it is told.

What the outbox holds is what the transaction that ended the run has seen (``lgs.a2a_notify``); the protocol's task is made of it when it
is sent. Nothing that a client names gets into a header unchecked. Addresses are the business of ``webhooks/``. Pure.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from langgraph_serverless.domain.a2a import Task, TaskRef, View, first_frame, state_of, task_document
from langgraph_serverless.domain.a2a_messages import Dialect
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.domain.webhooks import LONGEST_URL
from langgraph_serverless.errors import RpcError

#: What carries a client's own token back to it.
TOKEN_HEADER = "X-A2A-Notification-Token"  # noqa: S105
#: Places that one task may be announced to.
MOST_CONFIGS = 10
_PARAMS = -32602
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,2046}[\x21-\x7e])?")
_SCHEME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_LONGEST_ID = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """Where and how one client is notified."""

    config_id: str
    url: str
    dialect: Dialect
    token: str | None = None
    #: Of an ``Authorization`` header.
    scheme: str | None = None
    credentials: str | None = None

    def shown(self) -> dict[str, str]:
        """What is for the receiver's eyes."""
        found = {"token": self.token, "scheme": self.scheme, "credentials": self.credentials}
        return {name: value for name, value in found.items() if value is not None}

    def document(self, ref: TaskRef) -> dict[str, Any]:
        """On the wire; without the credentials, which only the receiver is shown."""
        config: dict[str, Any] = {"id": self.config_id, "url": self.url}
        config |= {"token": self.token} if self.token else {}
        if self.dialect is Dialect.V1:
            config |= {"authentication": {"scheme": self.scheme}} if self.scheme else {}
            return {"taskId": str(ref), **config}
        config |= {"authentication": {"schemes": [self.scheme]}} if self.scheme else {}
        return {"taskId": str(ref), "pushNotificationConfig": config}


def read_config(config: Any, dialect: Dialect, default_id: str) -> PushConfig:
    """What a client has sent, in either dialect.

    Raises:
        RpcError: names what is wrong.
    """
    if not isinstance(config, dict):
        raise RpcError(_PARAMS, "Missing or invalid push notification config")
    url, token, config_id = config.get("url"), config.get("token") or None, config.get("id") or default_id
    if not isinstance(url, str) or not 0 < len(url) <= LONGEST_URL:
        raise RpcError(_PARAMS, "Missing or invalid 'url' in push notification config")
    if not isinstance(config_id, str) or len(config_id) > _LONGEST_ID or not config_id.isprintable():
        raise RpcError(
            _PARAMS, f"'id' of a push notification config must be a text of at most {_LONGEST_ID} characters"
        )
    authentication = config.get("authentication") or {}
    if not isinstance(authentication, dict):
        raise RpcError(_PARAMS, "Invalid 'authentication' in push notification config")
    schemes = authentication.get("schemes")  # of 0.3, which has a list
    first = schemes[0] if isinstance(schemes, list) and schemes else None
    scheme, credentials = authentication.get("scheme") or first or None, authentication.get("credentials") or None
    if scheme is not None and not (isinstance(scheme, str) and _SCHEME.fullmatch(scheme)):
        raise RpcError(_PARAMS, "Invalid 'authentication' in push notification config: the scheme is no token")
    for name, value in (("token", token), ("credentials", credentials)):
        if value is not None and not (isinstance(value, str) and _HEADER_VALUE.fullmatch(value)):
            raise RpcError(_PARAMS, f"'{name}' of a push notification config cannot be sent in a header")
    return PushConfig(
        config_id=config_id, url=url, dialect=dialect, token=token, scheme=scheme, credentials=credentials
    )


def notification(payload: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a notification, out of the outbox."""
    about, shown = payload["a2a"], payload["shown"]
    dialect = Dialect(about["dialect"])
    waiting = bool(about["waiting"]) and payload["status"] == RunStatus.SUCCESS
    values = payload["values"]
    found = values.get("messages") if isinstance(values, dict) else None
    asked = [each for task in (payload.get("interrupts") or {}).values() for each in task] if waiting else []
    task = Task(
        ref=TaskRef(uuid.UUID(payload["thread_id"]), uuid.UUID(about["task_id"])),
        assistant_id=uuid.UUID(payload["assistant_id"]),
        run_id=uuid.UUID(payload["run_id"]),
        state=state_of(RunStatus(payload["status"]), resuming=False, waiting=waiting, canceled=about["canceled"]),
        at=datetime.fromisoformat(payload["run_ended_at"]),
        messages=[each for each in found if isinstance(each, dict)] if isinstance(found, list) else (),
        output=values,
        interrupts=asked,
        error=payload.get("error"),
        turns=[(message_id, uuid.UUID(task_id)) for message_id, task_id in about["turns"] or ()],
    )
    document = first_frame(task_document(task, View(dialect=dialect)), dialect)
    headers = {TOKEN_HEADER: shown["token"]} if shown.get("token") else {}
    if shown.get("scheme") and shown.get("credentials"):
        headers["Authorization"] = f"{shown['scheme']} {shown['credentials']}"
    return orjson.dumps(document), headers
