"""What the server says about itself, on the wire and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from starlette.responses import Response

from langgraph_serverless.http.responses import json_response
from langgraph_serverless.http.schemas.shared import JsonObject, ResponseModel
from langgraph_serverless.numbers import Histogram, family, histograms
from langgraph_serverless.services.system import Health as HealthReport
from langgraph_serverless.services.system import Numbers

Requests = Mapping[tuple[str, str, int], int]
Seconds = Mapping[tuple[str, str], Histogram]


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
    leases: JsonObject
    webhooks: JsonObject
    crons: JsonObject
    workers: JsonObject
    api: JsonObject


def health_response(report: HealthReport) -> Response:
    """200 if the server can do its work, else 500, as on the official server; both name what is down."""
    if report.ok:
        return json_response({"ok": True, "services": report.services})
    detail = "; ".join(report.services.values())
    return json_response({"ok": False, "services": report.services, "detail": detail}, 500, {"Retry-After": "1"})


def metrics_document(numbers: Numbers, requests: Requests) -> dict[str, Any]:
    """Metrics as JSON. Requests are those of this process; all else is about the whole deployment."""
    queue, moves = numbers.queue, numbers.moves
    return {
        "queue": {
            "n_pending": queue.pending,
            "n_running": queue.running,
            "pending_runs_wait_time_max_secs": queue.wait_max_seconds,
            "pending_runs_wait_time_med_secs": queue.wait_median_seconds,
            "pending_unblocked_runs_wait_time_max_secs": queue.unblocked_wait_max_seconds,
            "n_pending_over_limit": queue.over_limit,
        },
        "leases": {
            "n_expired": queue.expired_leases,
            "n_expiries_last_hour": moves.lease_expiries,
            "n_handoffs_last_hour": moves.handoffs,
            "n_repeats_last_hour": moves.repeats,
            "n_given_up_last_hour": moves.given_up,
        },
        "webhooks": {
            "n_undelivered": numbers.webhooks.undelivered,
            "lag_max_secs": numbers.webhooks.lag_seconds,
            "n_dead": numbers.webhooks.dead,
        },
        "workers": {
            "max": numbers.slots,
            "active": queue.executing,
            "available": numbers.slots - queue.executing,
        },
        "crons": {"n_overdue": numbers.crons.overdue, "lag_max_secs": numbers.crons.lag_seconds},
        "api": {
            "http_requests_total": [
                {"method": method, "path": path, "status": status, "count": count}
                for (method, path, status), count in sorted(requests.items())
            ]
        },
    }


def metrics_text(numbers: Numbers, requests: Requests, seconds: Seconds | None = None) -> str:
    """The same in Prometheus's text format, with how long requests took."""
    return "\n".join([*_lines(numbers, requests, seconds or {}), ""])


def _lines(numbers: Numbers, requests: Requests, seconds: Seconds) -> Iterator[str]:
    queue, moves, webhooks, crons = numbers.queue, numbers.moves, numbers.webhooks, numbers.crons
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
        ("lg_api_num_pending_runs_over_limit", "Due runs whose fairness group is at its limit.", queue.over_limit),
        ("lg_api_workers_max", "Runs that the workers with a run could execute at once.", numbers.slots),
        ("lg_api_workers_active", "Runs that workers execute.", queue.executing),
        ("lg_api_workers_available", "Free slots of these workers.", numbers.slots - queue.executing),
        ("lg_api_num_expired_leases", "Running runs whose worker is lost and not replaced yet.", queue.expired_leases),
        ("lg_api_lease_expiries_last_hour", "Attempts of the last hour that lost their worker.", moves.lease_expiries),
        ("lg_api_handoffs_last_hour", "Hand-offs from worker to worker in the last hour.", moves.handoffs),
        ("lg_api_repeats_last_hour", "Attempts of the last hour that went on after a lost worker.", moves.repeats),
        ("lg_api_given_up_last_hour", "Runs given up in the last hour, as every attempt was lost.", moves.given_up),
        ("lg_api_num_undelivered_webhooks", "Webhooks that are still to be delivered.", webhooks.undelivered),
        ("lg_api_webhooks_lag_max", "How long the longest due webhook has been due, in seconds.", webhooks.lag_seconds),
        ("lg_api_num_dead_webhooks", "Webhooks given up within the last week.", webhooks.dead),
        ("lg_api_num_overdue_crons", "Crons whose time has come and that have not fired.", crons.overdue),
        ("lg_api_crons_lag_max", "How late the latest of them is, in seconds.", crons.lag_seconds),
    )
    for name, about, value in gauges:
        yield from family(name, "gauge", about, [({}, value or 0)])
    yield from family(
        "lg_api_http_requests_total",
        "counter",
        "Requests that this process has answered.",
        (
            ({"method": method, "path": path, "status": status}, count)
            for (method, path, status), count in sorted(requests.items())
        ),
    )
    yield from histograms(
        "lg_api_http_request_duration_seconds",
        "How long they took; of streams, how long they were open.",
        (({"method": method, "path": path}, each) for (method, path), each in sorted(seconds.items())),
    )
