"""The two databases behind a laptop's server: the user's own where named, embedded ones otherwise.

Promises: after ``start`` both answer, and ``environment`` names them to the server process; ``stop`` stops what was
started here and leaves the user's servers alone. Starting is blocking work in threads, so that the supervisor can hear
Ctrl-C meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from langgraph_serverless.cli.laptop.addresses import check_postgres, check_redis, named, variables
from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres
from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey
from langgraph_serverless.errors import StartupError
from langgraph_serverless.settings import Settings

#: stands where an address will be, to check all other settings before anything is started
_LATER = {"DATABASE_URI": "postgresql://later", "REDIS_URI": "redis://later"}


class Services:
    """The databases of one command."""

    def __init__(self, environ: Mapping[str, str], data_dir: Path, on_progress: Callable[[str], None]) -> None:
        """Look at the environment, start nothing.

        Raises:
            SettingsError: if any setting is wrong.
        """
        self._own_postgres = named(environ, "database_uri")
        self._own_redis = named(environ, "redis_uri")
        Settings.from_env(_LATER | dict(environ))
        self._environ = dict(environ)
        self._on_progress = on_progress
        self._postgres = EmbeddedPostgres(data_dir, on_progress) if self._own_postgres is None else None
        self._valkey = EmbeddedValkey(data_dir, on_progress) if self._own_redis is None else None
        self.database_uri = ""
        self.redis_uri = ""

    @property
    def embedded(self) -> bool:
        """Whether anything lives in the data folder."""
        return self._postgres is not None or self._valkey is not None

    async def start(self) -> None:
        """Start or reach both at once.

        Raises:
            StartupError: if one cannot be had; the other is stopped by ``stop``.
        """
        results = await asyncio.gather(
            asyncio.to_thread(self._start_postgres), asyncio.to_thread(self._start_redis), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def environment(self) -> dict[str, str]:
        """The environment of the server process: ours, with exactly one address for each database."""
        addresses = {"database_uri": self.database_uri, "redis_uri": self.redis_uri}
        # under the strongest name, or the project's own env could name another
        chosen = {variables(setting)[0]: uri for setting, uri in addresses.items()}
        others = {name for setting in addresses for name in variables(setting)}
        return {name: value for name, value in self._environ.items() if name not in others} | chosen

    async def stop(self) -> None:
        """Valkey first: it is done in a moment."""
        for name, server in (("Valkey", self._valkey), ("Postgres", self._postgres)):
            if server is not None and server.pid is not None:
                self._on_progress(f"Stopping {name}")
                await asyncio.to_thread(server.stop)

    def let_go(self) -> None:
        """Tell what was started to stop, and do not wait for it."""
        for server in (self._valkey, self._postgres):
            if server is not None:
                server.let_go()

    def _start_postgres(self) -> None:
        if self._own_postgres is not None:
            check_postgres(*self._own_postgres)
            self.database_uri = self._own_postgres[1]
        elif self._postgres is not None:
            self.database_uri = self._postgres.start()

    def _start_redis(self) -> None:
        if self._own_redis is not None:
            try:
                check_redis(*self._own_redis)
            except StartupError as error:
                if isinstance(error.__cause__, ValueError):
                    raise  # no address at all
                self._on_progress(f"{error} Until it is there, runs are found by polling and streams end in snapshots.")
            self.redis_uri = self._own_redis[1]
        elif self._valkey is not None:
            self.redis_uri = self._valkey.start()
