"""The calls of the Runtime API (version 2018-06-01) that are answered at once: the next event, results, errors.

They block, as nothing else is to happen meanwhile: a sandbox is frozen while it asks for its next event. Streamed answers
are in ``response.py``. Errors have Lambda's form, so that consoles and callers read them like those of the managed client.
"""

from __future__ import annotations

import http.client
import json
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

API_PREFIX = "/2018-06-01/runtime"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event, not parsed yet, and the headers that came with it (names in lower case)."""

    request_id: str
    headers: Mapping[str, str]
    payload: bytes


def describe_error(error: BaseException) -> dict[str, Any]:
    """An error in the form in which Lambda shows it."""
    return {
        "errorType": type(error).__name__,
        "errorMessage": str(error),
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


class RuntimeClient:
    """``address`` is what AWS_LAMBDA_RUNTIME_API says: host and port."""

    def __init__(self, address: str) -> None:
        self.address = address

    def next(self) -> Invocation | None:
        """Waits for an event; None if there will be no more because the Runtime API has gone, and with it the sandbox."""
        try:
            status, headers, payload = self._call("GET", "/invocation/next")
        except (OSError, http.client.HTTPException):
            return None
        if status != 200:
            if status != http.HTTPStatus.GONE:
                logger.error("The Runtime API has no event: %s %s", status, payload[:500])
            return None
        return Invocation(headers["lambda-runtime-aws-request-id"], headers, payload)

    def respond(self, request_id: str, result: Any) -> None:
        """Answer an event that is no request."""
        self._post(f"/invocation/{request_id}/response", result)

    def fail(self, request_id: str, error: BaseException) -> None:
        """The invocation has failed, and nothing has been answered."""
        self._post(f"/invocation/{request_id}/error", describe_error(error), type(error).__name__)

    def fail_init(self, error: BaseException, error_type: str = "") -> None:
        """The function cannot start."""
        self._post("/init/error", describe_error(error), error_type or f"Runtime.{type(error).__name__}")

    def restore_next(self) -> None:
        """Waits until the process has been restored from the snapshot that Lambda takes meanwhile.

        Raises:
            OSError: no snapshot can be taken.
        """
        status, _, body = self._call("GET", "/restore/next")
        if status != 200:
            raise OSError(f"The Runtime API does not take a snapshot: {status} {body[:500]!r}")

    def fail_restore(self, error: BaseException) -> None:
        """The restored function cannot go on."""
        self._post("/restore/error", describe_error(error), "Runtime.AfterRestoreError")

    def _post(self, path: str, document: Any, error_type: str | None = None) -> None:
        headers = {"Content-Type": "application/json"}
        if error_type is not None:
            headers["Lambda-Runtime-Function-Error-Type"] = error_type
        status, _, body = self._call("POST", path, json.dumps(document).encode(), headers)
        if status >= 300:
            logger.error("The Runtime API answered %s to %s: %s", status, path, body[:500])

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.address)
        try:
            connection.request(method, API_PREFIX + path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()
