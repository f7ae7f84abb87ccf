"""Response streaming, and API Gateway's integration timeout, for LocalStack's community edition.

LocalStack (4.13) answers ``InvokeWithResponseStream`` with "not implemented", does not understand the
``response-streaming-invocations`` integration URI, buffers function URLs with ``InvokeMode: RESPONSE_STREAM``, and
lets an integration run for longer than its ``timeoutInMillis``. ``install`` adds these four, so that a local run
meets the same time limits and sees its first byte as early as one in AWS.

A stream is cut at its integration's timeout (``timeoutInMillis``: 29 s unless the template asks for more, at most
900,000), checked as each chunk arrives, and after five minutes without a chunk (a Regional API's idle timeout).

What stays out: the bandwidth cap (2 MB/s after the first megabytes) and the 30 s idle timeout of edge-optimized APIs.
"""

import contextvars
import json
import logging
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from localstack.aws.connect import connect_to
from localstack.http import Response
from localstack.services.apigateway.next_gen.execute_api.gateway_response import (
    IntegrationFailureError,
    IntegrationTimeoutError,
    InternalServerError,
)
from localstack.services.apigateway.next_gen.execute_api.helpers import get_source_arn
from localstack.services.apigateway.next_gen.execute_api.integrations.aws import RestApiAwsProxyIntegration
from localstack.services.lambda_ import api_utils
from localstack.services.lambda_.invocation.models import lambda_stores
from localstack.services.lambda_.provider import LambdaProvider
from localstack.services.lambda_.urlrouter import FunctionUrlRouter, event_for_lambda_url
from localstack.utils.aws.arns import extract_region_from_arn
from localstack.utils.patch import patch
from werkzeug.datastructures import Headers

from .runtime_api import Invocation
from .streaming_registry import expect_invocation, forget_invocation

LOG = logging.getLogger(__name__)
STREAMING_URI = re.compile(r"/functions/(?P<function>.+)/response-streaming-invocations$")
DELIMITER = b"\0" * 8
MAX_METADATA = 16 * 1024
NOT_FROM_METADATA = {"connection", "content-length", "transfer-encoding"}
IDLE_TIMEOUT_S = 300
# a retry would run the function twice
_once = Config(read_timeout=IDLE_TIMEOUT_S, retries={"total_max_attempts": 1})
_integrations = ThreadPoolExecutor(max_workers=256, thread_name_prefix="apigateway-integration")


def install() -> None:
    patch(LambdaProvider.invoke_with_response_stream)(_invoke_with_response_stream)
    patch(RestApiAwsProxyIntegration.invoke)(_integration_invoke)
    patch(FunctionUrlRouter.handle_lambda_url_invocation)(_function_url_invoke)


# -- the Lambda API ----------------------------------------------------------------------------------------------


def _start(lambda_service, function_name, qualifier, *, region, account_id, payload: bytes) -> Invocation:
    """Invokes a function in the background and returns as soon as its response has begun or it has failed."""
    request_id = str(uuid.uuid4())
    invocation, refusal = expect_invocation(request_id), []

    def run():
        try:
            result = lambda_service.invoke(
                function_name=function_name,
                qualifier=qualifier,
                region=region,
                account_id=account_id,
                invocation_type="RequestResponse",
                client_context=None,
                request_id=request_id,
                payload=payload,
            )
            if not invocation.done.is_set():  # a start-up error never reaches the executor's invoke
                invocation.finish(error=result.payload if result.is_error else None)
        except Exception as error:
            refusal.append(error)
            invocation.finish(error=str(error).encode())
        finally:
            forget_invocation(request_id)

    threading.Thread(target=run, name=f"stream-{function_name}", daemon=True).start()
    invocation.accepted.wait()
    if refusal:
        raise refusal[0]
    return invocation


def _invoke_with_response_stream(  # noqa: PLR0917 - the signature is LocalStack's
    target,
    self,
    context,
    function_name,
    invocation_type=None,
    log_type=None,
    client_context=None,
    qualifier=None,
    payload=None,
    **kwargs,
):
    account_id, region = api_utils.get_account_and_region(function_name, context)
    name, qualifier = api_utils.get_name_and_qualifier(function_name, qualifier, context)
    if invocation_type == "DryRun":
        return {"StatusCode": 204}
    invocation = _start(
        self.lambda_service,
        name,
        qualifier,
        region=region,
        account_id=account_id,
        payload=payload.read() if payload else b"{}",
    )

    def events():
        for chunk in invocation.chunks():
            yield {"PayloadChunk": {"Payload": chunk}}
        complete = {}
        if invocation.error is not None:
            complete = {"ErrorCode": _error_type(invocation.error), "ErrorDetails": invocation.error.decode()}
        yield {"InvokeComplete": complete}

    return {
        "StatusCode": 200,
        "ExecutedVersion": qualifier or "$LATEST",
        "ResponseStreamContentType": invocation.content_type or "application/octet-stream",
        "EventStream": events(),
    }


def _error_type(error: bytes) -> str:
    try:
        return json.loads(error).get("errorType") or "Unhandled"
    except ValueError:
        return "Unhandled"


# -- HTTP front ends ---------------------------------------------------------------------------------------------


class MidStreamError(Exception):
    """Raised while a body is being sent, so that the client sees the connection break off."""


def _split_metadata(chunks):
    """Reads the JSON metadata before the delimiter; returns it and an iterator over the rest. None if there is none."""
    head = b""
    for chunk in chunks:
        head += chunk
        if DELIMITER in head:
            metadata, _, first = head.partition(DELIMITER)
            try:
                return json.loads(metadata), _joined(first, chunks)
            except ValueError:
                return None, iter(())
        if len(head) > MAX_METADATA:
            return None, iter(())
    return None, iter((head,) if head else ())


def _joined(first: bytes, rest):
    if first:
        yield first
    yield from rest


def _headers_of(metadata: dict) -> Headers:
    headers = Headers()
    for name, value in (metadata.get("headers") or {}).items():
        headers.set(name, str(value))
    for name, values in (metadata.get("multiValueHeaders") or {}).items():
        headers.setlist(name, [str(value) for value in values])
    for cookie in metadata.get("cookies") or []:
        headers.add("Set-Cookie", cookie)
    for name in NOT_FROM_METADATA:
        headers.remove(name)
    if "Content-Type" not in headers:
        headers.set("Content-Type", "application/octet-stream")
    return headers


def _integration_invoke(target, self, context):
    streaming = STREAMING_URI.search(context.integration_request["uri"] or "")
    if not streaming:
        return _within_timeout(target, self, context)
    arn = streaming["function"]
    deadline = time.monotonic() + _integration_timeout(context)
    client = connect_to(region_name=extract_region_from_arn(arn), config=_once).lambda_.request_metadata(
        service_principal="apigateway", source_arn=get_source_arn(context)
    )
    event = json.dumps(self.create_lambda_input_event(context)).encode()
    try:
        stream = client.invoke_with_response_stream(FunctionName=arn, Payload=event)["EventStream"]
    except Exception as error:
        LOG.warning("Streaming integration failed: %s", error)
        raise IntegrationFailureError("Internal server error", status_code=502) from error

    def payload():
        try:
            for item in stream:
                if time.monotonic() > deadline:
                    raise MidStreamError("The integration's timeout has passed")
                if "PayloadChunk" in item:
                    yield item["PayloadChunk"]["Payload"]
                elif code := item.get("InvokeComplete", {}).get("ErrorCode"):
                    raise MidStreamError(f"{code}: {item['InvokeComplete'].get('ErrorDetails')}")
        except ReadTimeoutError as error:
            raise MidStreamError("The stream's idle timeout has passed") from error

    chunks = payload()
    try:
        metadata, body = _split_metadata(chunks)
    except MidStreamError as error:
        LOG.warning("The function failed before its response began: %s", error)
        raise InternalServerError("Internal server error", status_code=502) from error
    if metadata is None:
        LOG.warning("The function's response has no metadata and delimiter, which a streaming integration needs")
        raise InternalServerError("Internal server error", status_code=502)
    return {"headers": _headers_of(metadata), "body": body, "status_code": int(metadata.get("statusCode") or 200)}


def _integration_timeout(context) -> float:
    return int(context.integration.get("timeoutInMillis") or 29000) / 1000


def _within_timeout(target, self, context):
    """Gives up on an integration as API Gateway does; the function itself goes on to run, as it does in AWS."""
    future = _integrations.submit(contextvars.copy_context().run, target, self, context)
    try:
        return future.result(_integration_timeout(context))
    except FutureTimeout as error:
        raise IntegrationTimeoutError("Endpoint request timed out", status_code=504) from error


def _function_url_invoke(target, self, request, api_id, region, **params):
    for account_id, regions in lambda_stores.items():
        for function in regions[region].functions.values():
            for url in function.function_url_configs.values():
                if url.url_id.lower() == api_id.lower() and url.invoke_mode == "RESPONSE_STREAM":
                    return _stream_function_url(
                        self, request, api_id, function=function, url=url, account_id=account_id, region=region
                    )
    return target(self, request, api_id, region, **params)


def _stream_function_url(router, request, api_id, *, function, url, account_id, region) -> Response:
    event = json.dumps(event_for_lambda_url(api_id, request)).encode()
    qualifier = None if url.function_qualifier == "$LATEST" else url.function_qualifier
    invocation = _start(
        router.lambda_service, function.function_name, qualifier, region=region, account_id=account_id, payload=event
    )
    chunks = _checked(invocation)
    try:
        if invocation.content_type == "application/vnd.awslambda.http-integration-response":
            metadata, body = _split_metadata(chunks)
        else:
            first = next(chunks, b"")
            metadata, body = {}, _joined(first, chunks)
    except MidStreamError as error:
        LOG.warning("The function failed before its response began: %s", error)
        return Response("Internal Server Error", 502)
    if metadata is None:
        return Response("Internal Server Error", 502)
    return Response(body, int(metadata.get("statusCode") or 200), _headers_of(metadata))


def _checked(invocation: Invocation):
    yield from invocation.chunks()
    if invocation.error is not None:
        raise MidStreamError(invocation.error.decode(errors="replace"))
