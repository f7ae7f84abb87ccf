"""Half a deployment: API functions of one build that wake workers of another.

Whoever invokes the worker function says which build it is of (``build`` in the event, the beginning of its manifest's hash). A worker
of another one works all the same, as it does for a minute of every deployment, and says so: its graphs are not those that the API has
described, and its allow-list of types is another. Relies on both bundles having the manifest; without one nothing is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langgraph_serverless.containers.api import read_manifest

if TYPE_CHECKING:
    from langgraph_serverless.function_runtime import FunctionRuntime


class OwnBuild:
    """The build of this function."""

    def __init__(self, runtime: FunctionRuntime) -> None:
        self._runtime = runtime
        self.name = read_manifest(runtime.settings).short_hash if runtime.settings.manifest_path else ""

    def compare(self, event: Mapping[str, Any]) -> None:
        """With that of whoever has made this event; logged and counted if it is another."""
        theirs = event.get("build", "")
        if not theirs or not self.name or theirs == self.name:
            return
        self._runtime.count(BuildMismatches=1)
        self._runtime.logger.warning(
            "Invoked by a function of another build. If this goes on, a deployment has been left half done: deploy again",
            extra={"action": "build_mismatch", "build": self.name, "build_of_caller": str(theirs)},
        )
