"""The folder in which a laptop keeps its databases.

``DataDir`` makes the folder, tells git to ignore it, hands out places for sockets and locks. It promises that a socket's
path is short enough for the kernel (107 bytes on Linux, 103 on macOS) however deep the project lies: a longer one moves to
a private folder under ``/tmp`` whose name is a digest of the data folder, so that the next start looks at the same place.
Locks are ``flock``s, which the kernel drops with the process that holds them: ``kill -9`` leaves none behind.

Layout: ``postgres/`` and ``valkey/`` hold the data, ``logs/`` what the servers say, ``run/`` sockets and locks.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from langgraph_serverless.errors import StartupError

# macOS has the shortest sun_path, 104 bytes with the closing zero. The longest name put into the folder is Postgres's.
_LONGEST_SOCKET_PATH = 103
_LONGEST_SOCKET_NAME = len("/.s.PGSQL.5432")

_LONGEST_LOG = 5 * 2**20

# Postgres reads its socket folder as a list of quoted names.
_UNQUOTABLE = frozenset("\",'\\\n")


@dataclass(frozen=True)
class DataDir:
    """An existing, writable data folder."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> DataDir:
        """Make the folder if it is missing, and keep it out of git.

        Raises:
            StartupError: if it cannot be written.
        """
        root = Path(os.path.abspath(root.expanduser()))
        try:
            root.mkdir(parents=True, exist_ok=True)
            root = root.resolve()
            ignore = root / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            for name in ("logs", "run"):
                (root / name).mkdir(exist_ok=True)
        except OSError as error:
            raise StartupError(f"The data folder {root} cannot be written: {error.strerror or error}.") from error
        return cls(root)

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def valkey(self) -> Path:
        return self.root / "valkey"

    def log(self, name: str) -> Path:
        """Where the server of this name writes its log; a long one is put aside first, so that it never grows for ever."""
        path = self.root / "logs" / f"{name}.log"
        if path.exists() and path.stat().st_size > _LONGEST_LOG:
            path.replace(path.with_suffix(".old.log"))
        return path

    def socket_dir(self) -> Path:
        """A folder for sockets that only this user can enter, always the same one for this data folder."""
        inside = self.root / "run"
        path = str(inside)
        if len(os.fsencode(path)) + _LONGEST_SOCKET_NAME <= _LONGEST_SOCKET_PATH and not _UNQUOTABLE & set(path):
            _claim(inside)
            return inside
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        # Not tempfile.gettempdir(): TMPDIR differs between shells (and is long on macOS), this place must not.
        outside = Path("/tmp") / f"langgraph-serverless-{os.geteuid()}-{digest}"  # noqa: S108 - made 0700 and checked
        _claim(outside)
        return outside

    def leave_socket_dir(self) -> None:
        """Remove the folder under ``/tmp``, if there is one and no other server has its socket there."""
        folder = self.socket_dir()
        if folder.parent != self.root and not any(folder.iterdir()):
            folder.rmdir()

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the folder's lock of this name, which ends with this process at the latest.

        Raises:
            StartupError: if another process holds it.
        """
        path = self.root / "run" / f"{name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(fd, 32, 0).decode().strip()
                raise StartupError(
                    f"The data folder {self.root} is in use by another process{f' ({holder})' if holder else ''};"
                    " stop that one or choose another folder with --data-dir."
                ) from error
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(fd)


def _claim(path: Path) -> None:
    """Make ``path`` if it is missing, and refuse it if somebody else made it: whoever owns it could replace our sockets."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StartupError(f"The folder {path} for sockets cannot be made: {error.strerror or error}.") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StartupError(f"{path} is needed for sockets but is not a folder; remove it.")
    # root may use a folder that it has given to the account Postgres runs under
    if os.geteuid() not in (0, found.st_uid):
        raise StartupError(f"The folder {path} is needed for sockets but belongs to another user.")
    path.chmod(0o700)
