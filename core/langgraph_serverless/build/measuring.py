"""How large a bundle is, what it weighs most with, and whether Lambda takes it.

Promises the size that Lambda counts (all files, unpacked), what is uploaded (each file deflated as archives do it), and a hash of names
and contents that is the same for the same bundle. Reads every file once.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph_serverless.errors import ProjectError

#: "250 MB, unzipped, including layers", which Lambda counts in MiB ("must be smaller than 262144000 bytes"). The 50 MB for archives
#: hold for uploads without S3, which the SAM CLI does not do. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LIMIT = 250 * 1024 * 1024
WARN_FROM = 0.8
#: Names that a zip archive writes twice, with what stands around them.
ENTRY_OVERHEAD = 30 + 46
LARGEST = 10


@dataclass(frozen=True, kw_only=True)
class BundleSize:
    """A bundle in numbers."""

    files: int
    unpacked: int
    zipped: int
    sha256: str
    #: name of a package and its size unpacked, with its byte code; the largest first
    largest: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "unpacked_bytes": self.unpacked,
            "zipped_bytes": self.zipped,
            "sha256": self.sha256,
            "largest": [list(entry) for entry in self.largest],
        }


def measure(folder: Path) -> BundleSize:
    """Reads the whole bundle."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # zlib and hashlib let each other run
        numbers = dict(zip(paths, pool.map(_numbers, paths.values()), strict=True))
    owners, packages = _owners(folder), Counter[str]()
    content = hashlib.sha256()
    for name in sorted(numbers):
        unpacked, _, digest = numbers[name]
        content.update(f"{name}\0{digest}\n".encode())
        packages[owners.get(_source(name)) or _source(name).partition("/")[0]] += unpacked
    return BundleSize(
        files=len(numbers),
        unpacked=sum(unpacked for unpacked, _, _ in numbers.values()),
        zipped=sum(zipped + ENTRY_OVERHEAD + 2 * len(name.encode()) for name, (_, zipped, _) in numbers.items()),
        sha256=content.hexdigest(),
        largest=tuple(sorted(packages.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]),
    )


def check_budget(name: str, size: BundleSize, *, limit: int = LIMIT) -> str | None:
    """A warning, if the bundle comes near what Lambda takes.

    Raises:
        ProjectError: if it is too large, with what to do.
    """
    if size.unpacked < WARN_FROM * limit:
        return None
    heavy = ", ".join(f"{package} ({megabytes(number)})" for package, number in size.largest[:3])
    share = f"The {name} bundle has {megabytes(size.unpacked)} unpacked; Lambda takes {megabytes(limit)}."
    if size.unpacked < limit:
        return f"{share} Most of it: {heavy}."
    raise ProjectError(
        f"{share} Most of it: {heavy}. Drop what your graphs do not import (development tools belong into an extra or a group),"
        " or deploy the worker's bundle as a container image, which may have 10 GB: 'langgraph-serverless build --image'."
    )


def megabytes(number: int) -> str:
    """As Lambda counts them."""
    return f"{number / 1024 / 1024:.1f} MB"


def _numbers(path: Path) -> tuple[int, int, str]:
    content = path.read_bytes()
    deflated = zlib.compressobj(wbits=-15)
    return (
        len(content),
        len(deflated.compress(content)) + len(deflated.flush()),
        hashlib.sha256(content).hexdigest(),
    )


def _source(name: str) -> str:
    return re.sub(r"__pycache__/([^/]+)\.cpython-[^/]+$", r"\1.py", name)


def _owners(folder: Path) -> dict[str, str]:
    """The distribution that each installed file belongs to."""
    owners = {}
    for record in folder.glob("*.dist-info/RECORD"):
        distribution = record.parent.name.partition("-")[0].replace("_", "-")
        with record.open(encoding="utf-8", newline="") as lines:
            owners.update({row[0]: distribution for row in csv.reader(lines) if row})
    return owners
