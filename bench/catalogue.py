"""All workloads, in the order in which a visit does them."""

from __future__ import annotations

from bench import protocol, records, resources, streams, waits
from bench.workloads import Workload

WORKLOADS = (
    Workload("start", "from the start of the command to the first answered run", resources.start),
    Workload("memory", "what the server's processes hold when it has done next to nothing", resources.memory),
    Workload("counts", "what a background run asks of Postgres and Redis", resources.counts, once=True),
    Workload("wait", "runs/wait of one node, stateless and on a thread", waits.wait),
    Workload("drain", "300 background runs, until all are over", waits.drain),
    Workload("idle_start", "from a POST to an idle server to the start of the node", waits.idle_start),
    Workload("sleepers", "50 runs that sleep for a second", waits.sleepers),
    Workload("big_state", "a state of 100 kB through three supersteps", waits.big_state),
    Workload("threads", "create, get and search threads", records.threads),
    Workload("history", "history and state of a thread with 20 supersteps", records.history),
    Workload("store", "put, get and search items of the store", records.store),
    Workload("tokens", "1,000 tokens of a model that takes no breath", streams.tokens),
    Workload("supersteps", "20 supersteps a run", streams.supersteps),
    Workload("first_event", "time to the first events of a streamed run", streams.first_event),
    Workload("events", "1,000 tokens a stream: events per second", streams.events_per_second),
    Workload("resume", "1,000 events once more, from Last-Event-ID 0-0", streams.resume),
    Workload("idle_streams", "100 streams that say nothing", streams.idle_streams),
    Workload("run_start", "thread protocol: time from run.start to the first events", protocol.run_start),
    Workload("memory_after", "what the server's processes hold in the end", resources.memory_after),
)
