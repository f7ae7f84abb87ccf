"""One form for all lines of a long-lived process."""

from __future__ import annotations

import logging
import sys

from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import Context, JsonFormatter, TextFormatter, configure_logging


def log_everything(settings: Settings) -> None:
    """Our own records as everywhere, those of the user's code and of libraries in the same form."""
    configure_logging(settings.log_level, json=settings.log_json)
    others = logging.StreamHandler(sys.stderr)
    others.setFormatter(JsonFormatter() if settings.log_json else TextFormatter())
    others.addFilter(Context())
    logging.basicConfig(level=logging.INFO, handlers=[others])
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
