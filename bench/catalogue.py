"""All workloads, in the order in which a visit does them."""

from __future__ import annotations

from bench import protocol, streams, waits
from bench.workloads import Workload

WORKLOADS = (
    Workload("first_event", "time to the first events of a streamed run", streams.first_event),
    Workload("events", "1,000 tokens a stream: events per second", streams.events_per_second),
    Workload("supersteps", "20 supersteps a run: updates per second", streams.supersteps),
    Workload("resume", "1,000 events once more, from Last-Event-ID 0-0", streams.resume),
    Workload("idle_streams", "100 streams that say nothing", streams.idle_streams),
    Workload("run_start", "thread protocol: time from run.start to the first events", protocol.run_start),
    Workload("runs_wait", "runs/wait of one node on a thread", waits.runs_wait),
)
