"""The data folder: sockets with short paths, locks that one process holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from langgraph_serverless.cli.laptop.data_dir import DataDir
from langgraph_serverless.errors import StartupError


def test_git_does_not_see_it(tmp_path: Path) -> None:
    folder = DataDir.make(tmp_path / "deep" / "data")
    assert (folder.root / ".gitignore").read_text() == "*\n"
    (folder.root / ".gitignore").write_text("mine\n")
    DataDir.make(folder.root)
    assert (folder.root / ".gitignore").read_text() == "mine\n"


def test_a_socket_fits_however_deep_the_project_lies(tmp_path: Path) -> None:
    deep = DataDir.make(tmp_path / ("a" * 100) / ("b" * 100))
    folder = deep.socket_dir()
    assert folder == DataDir.make(deep.root).socket_dir(), "the next start must find the same place"
    assert folder.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(folder / ".s.PGSQL.5432"))
    deep.leave_socket_dir()
    assert folder.exists(), "another server has its socket there"
    (folder / ".s.PGSQL.5432").unlink()
    deep.leave_socket_dir()
    assert not folder.exists()


def test_two_folders_have_two_socket_folders(tmp_path: Path) -> None:
    deep = tmp_path / ("a" * 100)
    one, other = DataDir.make(deep / "one"), DataDir.make(deep / "other")
    assert one.socket_dir() != other.socket_dir()
    for folder in (one, other):
        folder.leave_socket_dir()


def test_a_name_that_postgres_could_not_read_is_no_place_for_a_socket(tmp_path: Path) -> None:
    folder = DataDir.make(tmp_path / 'a, "b"')
    assert folder.root not in folder.socket_dir().parents
    folder.leave_socket_dir()


def test_somebody_elses_socket_folder_is_refused(tmp_path: Path) -> None:
    deep = DataDir.make(tmp_path / ("a" * 110))
    place = deep.socket_dir()
    place.rmdir()
    place.symlink_to(tmp_path)
    try:
        with pytest.raises(StartupError, match="not a folder"):
            deep.socket_dir()
    finally:
        place.unlink()


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    folder = DataDir.make(tmp_path)
    hold = (
        "import sys, pathlib; from langgraph_serverless.cli.laptop.data_dir import DataDir\n"
        "with DataDir.make(pathlib.Path(sys.argv[1])).locked('postgres'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(StartupError, match=rf"in use by another process \({holder.pid}\)"),
            folder.locked("postgres"),
        ):
            pass
        with folder.locked("valkey"):
            pass
        holder.kill()
        holder.wait(10)
    with folder.locked("postgres"):
        assert (tmp_path / "run" / "postgres.lock").read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match=r"^The data folder .* cannot be written: Not a directory\.$"):
        DataDir.make(tmp_path / "file" / "data")
