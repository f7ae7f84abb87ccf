"""What the functions will run on: a Python, an architecture, and which wheels fit.

Promises tags of wheels that load on Lambda's own Linux, also for a build on a machine whose Linux is newer. Knows nothing of
installers.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass, field

MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
WHEEL_MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
#: Lambda's runtimes that we run on. Its 3.11 is on Amazon Linux 2, whose C library (glibc 2.26) is too old for psycopg's wheels:
#: they need 2.27. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
PYTHONS = ("3.12", "3.13")
#: Amazon Linux 2023, under both.
GLIBC_MINOR = 34
#: A fifth cheaper than x86_64 for the same time, and as quick.
DEFAULT_ARCHITECTURE = "arm64"


def host_python() -> str:
    """The running interpreter's version, as in ``3.13``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def default_python() -> str:
    """This machine's version, so that nothing behaves differently there, if Lambda's is new enough; else the newest."""
    return host_python() if host_python() in PYTHONS else PYTHONS[-1]


def host_architecture() -> str:
    """This machine's architecture in Lambda's words."""
    return MACHINES.get(platform.machine().lower(), "x86_64")


@dataclass(frozen=True, kw_only=True)
class BuildTarget:
    """What the functions will run on."""

    python: str = field(default_factory=default_python)
    architecture: str = DEFAULT_ARCHITECTURE

    @property
    def is_host(self) -> bool:
        """Whether this machine is of the target's kind."""
        return (sys.platform, self.python, self.architecture) == ("linux", host_python(), host_architecture())

    @property
    def machine(self) -> str:
        """The architecture in the words of wheels."""
        return WHEEL_MACHINES[self.architecture]

    def wheel_platforms(self) -> list[str]:
        """The platform tags that fit, the best first; pip takes no older ones by itself."""
        return [
            *(f"manylinux_2_{minor}_{self.machine}" for minor in range(GLIBC_MINOR, 4, -1)),
            f"manylinux2014_{self.machine}",
        ]
