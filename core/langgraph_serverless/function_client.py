"""Asks another function of the same stack, and waits for its answer.

Promises: one attempt (what was asked for may write, and must not be done twice), an answer or an error well within API
Gateway's 29 seconds, nothing but ``ServerError`` for whatever goes wrong, and that the other function's lines and spans go on with
the request's id and trace (``CORRELATION``). Relies on the AWS SDK's own ways of finding
region and credentials, and on ``lambda:InvokeFunction`` for this one function. Never looks into events or answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

import orjson

from langgraph_serverless import tracing
from langgraph_serverless.errors import BadGatewayError, UnavailableError
from langgraph_serverless.telemetry import said

logger = logging.getLogger("langgraph_serverless.http")

#: The key of an event that says which request it belongs to. API Gateway writes its events itself, so no client can send it.
CORRELATION = "langgraph_serverless_correlation"

#: Seconds; with the way there and back it stays below API Gateway's limit and the caller's own.
CONNECT_TIMEOUT, READ_TIMEOUT = 2.0, 25.0
#: What Lambda answers while it cannot run the function at all: nothing has happened, so the client may try again.
_BUSY = frozenset(
    {"TooManyRequestsException", "ServiceException", "EC2ThrottledException", "ResourceNotReadyException"}
)


class FunctionClient:
    """Invokes one Lambda function synchronously."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def call(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """What the function returns for this event.

        Raises:
            UnavailableError: if it could not be started.
            BadGatewayError: if it failed, may not be called, or did not answer in time: it may have done its work.
        """
        with tracing.span("invoke state function", kind="client"):
            trace = tracing.current()
            correlation = {"request_id": said("request_id"), "trace": trace.headers if trace is not None else None}
            payload = orjson.dumps({**event, CORRELATION: correlation})
            # boto3 is synchronous, and the event loop has other things to do
            return await asyncio.to_thread(self._call_now, payload)

    def _call_now(self, payload: bytes) -> dict[str, Any]:
        errors = import_module("botocore.exceptions")
        try:
            answer = self._lambda.invoke(FunctionName=self.name, InvocationType="RequestResponse", Payload=payload)
            body = answer["Payload"].read()
        except errors.ClientError as error:
            if error.response.get("Error", {}).get("Code") in _BUSY:
                raise UnavailableError(f"The function {self.name} cannot be started at the moment") from error
            logger.error("The function %s cannot be invoked: %s", self.name, error)
            raise BadGatewayError(f"The function {self.name} cannot be invoked") from error
        except (errors.ConnectTimeoutError, errors.EndpointConnectionError) as error:
            raise UnavailableError("Lambda cannot be reached") from error
        except errors.BotoCoreError as error:
            logger.error("The function %s has not answered: %s", self.name, error)
            raise BadGatewayError(f"The function {self.name} has not answered in time") from error
        if "FunctionError" in answer:
            # the function has logged it as well; its text may hold what no client should read
            logger.error("The function %s has failed: %s", self.name, body[:2000].decode(errors="replace"))
            raise BadGatewayError(f"The function {self.name} has failed")
        returned: dict[str, Any] = orjson.loads(body)
        return returned

    @cached_property
    def _lambda(self) -> Any:
        # imported here because it takes long to load, and few requests are forwarded
        config = import_module("botocore.config").Config(
            connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT, retries={"total_max_attempts": 1}
        )
        return import_module("boto3").client("lambda", config=config)
