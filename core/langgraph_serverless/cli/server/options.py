"""What ``serve`` is told, on its way from the command to the processes that serve. Imports nothing heavy: the command may only supervise."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

#: What a child of ``serve --workers N`` runs.
MODULE = "langgraph_serverless.cli.server.serve"


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What the command line said, as far as it concerns one process."""

    config: str
    with_worker: bool
    with_scheduler: bool
    with_migrations: bool
    #: Below which the API is to be found, besides the root; empty or like ``/api``.
    mount_prefix: str
    proxy_headers: bool
    #: Whose word on the client's address and scheme is taken: addresses, networks, or ``*``.
    forwarded_allow_ips: str
    #: Seconds that an idle connection is kept.
    keep_alive: int

    def to_arguments(self, *, debug: bool) -> tuple[str, ...]:
        """For a child of the command."""
        return (f"--options={json.dumps(asdict(self))}", *(["--debug"] if debug else []))
