"""What the server says about itself, on the wire and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from langgraph_serverless.http.schemas.shared import JsonObject, ResponseModel
from langgraph_serverless.services.system import QueueNumbers

Requests = Mapping[tuple[str, str, int], int]


class Health(ResponseModel):
    ok: Literal[True]
    services: JsonObject


class Info(ResponseModel):
    version: str
    langgraph_py_version: str | None
    flags: dict[str, bool]
    host: JsonObject


class Metrics(ResponseModel):
    queue: JsonObject
    api: JsonObject


def metrics_document(queue: QueueNumbers, requests: Requests) -> dict[str, Any]:
    """Metrics as JSON. Requests are those of this process; workers are other processes, which report themselves."""
    return {
        "queue": {
            "n_pending": queue.pending,
            "n_running": queue.running,
            "pending_runs_wait_time_max_secs": queue.wait_max_seconds,
            "pending_runs_wait_time_med_secs": queue.wait_median_seconds,
            "pending_unblocked_runs_wait_time_max_secs": queue.unblocked_wait_max_seconds,
        },
        "api": {
            "http_requests_total": [
                {"method": method, "path": path, "status": status, "count": count}
                for (method, path, status), count in sorted(requests.items())
            ]
        },
    }


def metrics_text(queue: QueueNumbers, requests: Requests) -> str:
    """The same in Prometheus's text format."""
    return "\n".join([*_lines(queue, requests), ""])


def _lines(queue: QueueNumbers, requests: Requests) -> Iterator[str]:
    gauges = (
        ("lg_api_num_pending_runs", "Runs that wait.", queue.pending),
        ("lg_api_num_running_runs", "Runs that are executed.", queue.running),
        ("lg_api_pending_runs_wait_time_max", "Longest wait, in seconds.", queue.wait_max_seconds),
        ("lg_api_pending_runs_wait_time_med", "Median wait, in seconds.", queue.wait_median_seconds),
        (
            "lg_api_pending_unblocked_runs_wait_time_max",
            "Longest wait of a run that needs nothing but a worker, in seconds.",
            queue.unblocked_wait_max_seconds,
        ),
    )
    for name, about, value in gauges:
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} gauge"
        yield f"{name} {value or 0}"
    yield "# HELP lg_api_http_requests_total Requests that this process has answered."
    yield "# TYPE lg_api_http_requests_total counter"
    for (method, path, status), count in sorted(requests.items()):
        yield f'lg_api_http_requests_total{{method="{_escaped(method)}",path="{_escaped(path)}",status="{status}"}} {count}'


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
