"""What the runs of a thread do to each other, said once more without a database: the reference of ``test_double_texting.py``.

Answers are what a caller sees: a key or keys, ``"ok"``, or ``"404"``, ``"409"``, ``"lost"`` for a refusal. It knows no time:
``later`` makes everything due, and leases end when ``crash`` says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

#: Few, so that a history comes to the last one.
ATTEMPTS = 2
Answer = Any


@dataclass
class Run:
    place: tuple[int, int]  # in the queue: when it is due, when it was made
    status: str = "pending"
    resuming: bool = False
    continued: bool = False
    cancel: str | None = None
    attempt: int = 0
    handoffs: int = 0
    leases: int = 0  # the last of them is the one that counts
    dead: bool = False
    saved: list[int] = field(default_factory=list)  # under which lease each checkpoint was

    @property
    def got_on(self) -> bool:
        """Has it completed a superstep, after its first, under one of its last leases, which was not its first?"""
        return any(lease > max(1, self.leases - (ATTEMPTS - 1)) for lease in self.saved[1:])


@dataclass
class Thread:
    settled: str = "idle"
    runs: dict[int, Run] = field(default_factory=dict)
    saved: list[int] = field(default_factory=list)  # which run each checkpoint is of

    def live(self) -> list[int]:
        live = [key for key, run in self.runs.items() if run.status in {"pending", "running"}]
        return sorted(live, key=lambda key: self.runs[key].place)


class Model:
    def __init__(self) -> None:
        self.threads: dict[int, Thread] = {}
        self.now = self.made = 0

    def create(self, on: int, key: int, strategy: str, if_missing: str, delay: int) -> Answer:
        if on not in self.threads and if_missing != "create":
            return "404"
        thread = self.threads.setdefault(on, Thread())
        if strategy == "reject" and thread.live():
            return "409"
        for other in thread.live() if strategy in {"interrupt", "rollback"} else ():
            self._cancel(thread, other, strategy)
        self.made += 1
        thread.runs[key] = Run((self.now + delay, self.made))
        return key

    def claimable(self, on_trial: bool) -> dict[int, int]:
        """The run that each thread may have taken, with its thread."""
        found = {}
        for number, thread in self.threads.items():
            first = next(iter(thread.live()), None)
            if first is None or any(run.status == "running" for run in thread.runs.values()):
                continue
            run = thread.runs[first]
            if run.place[0] <= self.now and (run.attempt + 1 >= ATTEMPTS) == on_trial:
                found[first] = number
        return found

    def claim(self, key: int, on: int) -> Answer:
        run = self.threads[on].runs[key]
        run.status, run.resuming, run.dead = "running", False, False
        run.attempt, run.leases = run.attempt + 1, run.leases + 1
        return key, run.attempt, run.handoffs, run.continued, run.cancel

    def held(self, on: int, key: int, lease: int) -> Run | None:
        """The run, if this lease of it still counts."""
        run = self.threads[on].runs.get(key) if on in self.threads else None
        return run if run is not None and run.status == "running" and run.leases == lease else None

    def settle(self, on: int, key: int, lease: int, status: str, thread_status: str) -> Answer:
        run, thread = self.held(on, key, lease), self.threads.get(on)
        if run is None or thread is None:
            return "lost"
        if run.cancel == "rollback":
            self._remove(thread, key)
            return "rollback"
        run.status, run.dead = "interrupted" if run.cancel and status == "success" else status, False
        thread.settled = thread_status
        return run.status

    def obey(self, on: int, key: int, lease: int) -> Answer:
        """A heartbeat, and what the worker does that hears of a cancel."""
        run = self.held(on, key, lease)
        if run is None:
            return "lost"
        run.dead = False
        return self.settle(on, key, lease, "interrupted", "idle") if run.cancel else "ok"

    def give_back(self, on: int, key: int, lease: int) -> Answer:
        run = self.held(on, key, lease)
        if run is None:
            return "lost"
        run.status, run.resuming, run.continued, run.dead = "pending", True, True, False
        run.attempt, run.handoffs = run.attempt - 1, run.handoffs + 1
        return "ok"

    def save(self, on: int, key: int, lease: int) -> Answer:
        run = self.held(on, key, lease)
        if run is None:
            return "lost"
        run.saved.append(lease)
        self.threads[on].saved.append(key)
        return "ok"

    def crash(self, on: int, key: int, lease: int) -> Answer:
        if (run := self.held(on, key, lease)) is not None:
            run.dead = True
        return "ok"

    def sweep(self) -> Answer:
        swept = [0, 0]
        for on, thread in self.threads.items():
            for key, run in [(key, run) for key, run in thread.runs.items() if run.dead]:
                back = run.attempt < ATTEMPTS + bool(run.cancel) or run.got_on
                swept[not back] += 1
                run.dead = False
                if back:
                    run.status, run.resuming, run.continued = "pending", True, False
                else:
                    run.attempt, run.leases = run.attempt + 1, run.leases + 1
                    ended = ("interrupted", "idle") if run.cancel else ("error", "error")
                    self.settle(on, key, run.leases, *ended)
        return tuple(swept)

    def cancel(self, on: int, keys: Collection[int], action: str) -> Answer:
        thread = self.threads.get(on, Thread())
        live = [key for key in thread.live() if key in keys]
        for key in live:
            self._cancel(thread, key, action)
        return set(live) or "404"

    def cancel_all(self, status: str, action: str) -> Answer:
        cancelled = set()
        for on, thread in self.threads.items():
            begun = {key for key in thread.live() if thread.runs[key].status == "running" or thread.runs[key].resuming}
            wanted = {"all": set(thread.live()), "running": begun, "pending": set(thread.live()) - begun}[status]
            cancelled |= self.cancel(on, wanted, action) if wanted else set()
        return cancelled or "404"

    def delete_run(self, on: int, key: int) -> Answer:
        thread = self.threads.get(on)
        if thread is None or key not in thread.runs:
            return "404"
        others = [run for other, run in thread.runs.items() if other != key]
        kept = any(run.status == "running" or run.resuming for run in others)  # they may build on its checkpoints
        self._remove(thread, key, checkpoints=not kept)
        return "ok"

    def delete_thread(self, on: int) -> Answer:
        return "ok" if self.threads.pop(on, None) else "404"

    def later(self, seconds: int) -> Answer:
        self.now += seconds

    def state(self) -> Any:
        """Threads, their runs in the order of the queue, and which runs their checkpoints are of."""
        return {
            on: (
                "busy" if thread.live() else thread.settled,
                [
                    (key, run.status, run.resuming, run.cancel, run.attempt, run.handoffs)
                    for key, run in sorted(thread.runs.items(), key=lambda item: item[1].place)
                ],
                thread.saved,
            )
            for on, thread in self.threads.items()
        }

    def _cancel(self, thread: Thread, key: int, action: str) -> None:
        run = thread.runs[key]
        if run.status == "running" or run.resuming:
            run.cancel = "rollback" if run.cancel == "rollback" else action
        elif action == "rollback":
            self._remove(thread, key)
        else:
            run.status, run.cancel = "interrupted", action

    def _remove(self, thread: Thread, key: int, *, checkpoints: bool = True) -> None:
        del thread.runs[key]
        if checkpoints:
            thread.saved = [other for other in thread.saved if other != key]
