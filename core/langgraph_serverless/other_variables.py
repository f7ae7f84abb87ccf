"""Variables of the official server that nothing here reads, and why; ``doctor`` says so where one is set.

What is read is in ``settings.py``; tests hold both against the list of the official documentation. LangChain's own variables
(``LANGSMITH_...``) are read by its tracer in the process that executes graphs.
"""

from __future__ import annotations

from collections.abc import Mapping

OTHER_VARIABLES: Mapping[str, str] = {
    "BG_JOB_ISOLATED_LOOPS": "graphs never run on the event loop that serves the API",
    "DD_API_KEY": "nothing is wrapped for Datadog; traces and metrics leave by OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT)",
    "LANGGRAPH_AUTH_TYPE": "who is calling is decided by the section auth of langgraph.json",
    "LANGGRAPH_CLOUD_LICENSE_KEY": "no licence is needed",
    "LOG_COLOR": "the log has no colours",
    "REDIS_CLUSTER": "one client serves both: name a server that has all slots behind one address, as ElastiCache Serverless does",
}
