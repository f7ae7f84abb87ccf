"""What a handler is told about its invocation: the attributes of the managed client's context that are in use."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping


class LambdaContext:
    """The second argument of a handler; made from the headers that came with the event."""

    def __init__(self, headers: Mapping[str, str], environ: Mapping[str, str] | None = None) -> None:
        known = os.environ if environ is None else environ
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.function_name = known.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = known.get("AWS_LAMBDA_FUNCTION_VERSION", "")
        self.memory_limit_in_mb = int(known.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") or 0)
        self.log_group_name = known.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = known.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self.identity = None
        self.client_context = None
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms") or 0)

    def get_remaining_time_in_millis(self) -> int:
        """Time until Lambda ends the invocation, and the process with it."""
        return max(0, self._deadline_ms - int(time.time() * 1000))
