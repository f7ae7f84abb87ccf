"""Workloads of runs that are waited for: the whole way of a run, from the request to its answer."""

from __future__ import annotations

import time

from bench.client import WrongAnswerError
from bench.workloads import Figure, Visit, at_once, latencies


async def runs_wait(visit: Visit) -> list[Figure]:
    """``POST /threads/{id}/runs/wait`` of a graph of one node; by one client, and by 16 at once."""
    figures: list[Figure] = []
    for workers, often in ((1, 10), (16, 4)):
        threads = [await visit.thread() for _ in range(workers)]
        took: list[float] = []

        async def run(worker: int, threads: list[str] = threads, took: list[float] = took) -> None:
            text = f"text {len(took)}"
            began = time.perf_counter()
            body = {"assistant_id": "echo", "input": {"text": text}}
            answer = await visit.client.json("POST", f"/threads/{threads[worker]}/runs/wait", body)
            took.append(time.perf_counter() - began)
            if answer.get("reply") != text:
                raise WrongAnswerError(f"the reply to {text!r} is {answer!r:.300}")

        await at_once(workers, 1, run)
        took.clear()
        began = time.perf_counter()
        await at_once(workers, visit.times(often), run)
        rate = len(took) / (time.perf_counter() - began)
        figures += latencies(f"c{workers}", took)
        if workers > 1:
            figures.append(Figure(f"c{workers} rate", rate, "runs/s", more_is_better=True))
    return figures
