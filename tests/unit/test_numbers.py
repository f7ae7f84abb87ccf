"""What processes count about themselves, and how Prometheus reads it."""

from __future__ import annotations

import random

import exposition
import pytest

from langgraph_serverless.http.schemas.system import metrics_text
from langgraph_serverless.numbers import REQUEST_BOUNDS, Histogram, family, histograms
from langgraph_serverless.services.system import CronNumbers, MoveNumbers, Numbers, QueueNumbers, WebhookNumbers
from langgraph_serverless.services.work_report import WorkReport

NUMBERS = Numbers(
    queue=QueueNumbers(
        pending=1,
        running=2,
        wait_max_seconds=1.5,
        wait_median_seconds=0.5,
        unblocked_wait_max_seconds=None,
        expired_leases=0,
        executing=1,
        workers=1,
        over_limit=0,
    ),
    moves=MoveNumbers(lease_expiries=0, handoffs=3, repeats=0, given_up=0),
    webhooks=WebhookNumbers(undelivered=0, lag_seconds=None, dead=0),
    crons=CronNumbers(overdue=0, lag_seconds=None),
    jobs_per_worker=10,
)


def test_all_that_a_process_tells_can_be_read_together() -> None:
    seconds = Histogram(REQUEST_BOUNDS)
    for value in (0.001, 0.005, 0.3, 1000.0):
        seconds.add(value)
    report = WorkReport(succeeded=3, handed_off=1)
    for value in (0.2, 70.0):
        report.took("success", value)
        report.waited(value)
    report.began(0.04)
    requests = {("GET", '/with "quotes" \\ and\nlines', 200): 4}
    text = metrics_text(NUMBERS, requests, {("GET", "/threads/{thread_id}"): seconds})
    text += "\n".join([*report.prometheus(active=2, slots=10), ""])
    families = exposition.read(text)
    took = families["lg_api_http_request_duration_seconds"].samples
    labels = (("method", "GET"), ("path", "/threads/{thread_id}"))
    assert took["lg_api_http_request_duration_seconds_bucket", (*labels, ("le", "0.005"))] == 2
    assert took["lg_api_http_request_duration_seconds_count", labels] == 4
    assert families["lg_worker_runs_total"].samples["lg_worker_runs_total", (("outcome", "success"),)] == 3
    waits = families["lg_worker_queue_wait_seconds"].samples
    assert waits["lg_worker_queue_wait_seconds_sum", ()] == 70.2
    assert families["lg_worker_slots"].samples["lg_worker_slots", ()] == 10
    assert families["lg_api_num_pending_runs"].kind == "gauge"


@pytest.mark.parametrize(
    "broken",
    [
        "# HELP a A.\n# TYPE a gauge\na{b=c} 1\n",
        "# HELP a A.\n# TYPE a counter\na 1\n",
        "# HELP a A.\n# TYPE a gauge\nb 1\n",
    ],
)
def test_the_reader_is_strict(broken: str) -> None:
    with pytest.raises(AssertionError):
        exposition.read(broken)


def test_a_scrape_does_not_grow_with_what_has_happened() -> None:
    report, before = WorkReport(), 0
    for many in (1, 5000):
        for _ in range(many):
            report.took("success", random.expovariate(1.0))
            report.waited(0.1)
        lines = len([*report.prometheus(active=0, slots=1)])
        assert before in (0, lines)
        before = lines


def test_a_family_has_its_lines_in_order() -> None:
    assert [*family("a", "gauge", "A.", [({"b": 1}, 2)])] == ["# HELP a A.", "# TYPE a gauge", 'a{b="1"} 2']
    assert [*histograms("a", "A.", [({}, Histogram((1.0,)))])][2:] == [
        'a_bucket{le="1.0"} 0',
        'a_bucket{le="+Inf"} 0',
        "a_sum 0.0",
        "a_count 0",
    ]
