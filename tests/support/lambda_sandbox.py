"""One sandbox of the worker function: a process that has imported its handler, and is given one invocation after the other.

Started by ``lambda_service.py`` only, which writes a line (the seconds that the invocation may take, and its event) for each, and kills the
process if it takes longer, as Lambda does. Between invocations nothing runs in it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

HANDLER = Path(__file__).parent.parent.parent / "functions" / "worker" / "handler.py"


@dataclass
class Context:
    """What Lambda tells a handler."""

    ends: float
    function_name: str = "worker"
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:000000000000:function:worker"
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * (self.ends - time.monotonic()))


if __name__ == "__main__":
    answers = os.fdopen(int(sys.argv[1]), "w")
    spec = importlib.util.spec_from_file_location("worker_handler", HANDLER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print("{}", file=answers, flush=True)  # it may be invoked
    for line in sys.stdin:
        limit, _, event = line.partition(" ")
        report = module.handler(json.loads(event), Context(time.monotonic() + float(limit)))
        print(json.dumps(report), file=answers, flush=True)
