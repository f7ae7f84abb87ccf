"""A log line when something that may be away goes away, and one when it is back; none in between."""

from __future__ import annotations

import logging

logger = logging.getLogger("langgraph_serverless.queue")


class Outage:
    """Logs the first error of an outage and its end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._out = False

    def begins(self, error: object) -> None:
        if not self._out:
            logger.warning("%s is out of order; the queue is polled: %s", self._what, error)
        self._out = True

    def ends(self) -> None:
        if self._out:
            logger.info("%s works again", self._what)
        self._out = False
