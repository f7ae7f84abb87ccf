"""What a function does not need of what it imports, left out while it is imported: a quarter of a cold start (docs/adr/0023).

Within ``lean_imports`` pydantic builds models when they are first used (FastAPI has forty for an OpenAPI document that one function
serves), and modules of ``UNUSED`` cannot be imported, as if they were not installed: those who ask for them do without. What has been
imported before stays, and afterwards everything is as it always is. Relies on pydantic reading a base class's ``model_config``; if it
does not, only the time is lost. Never wrapped around the user's code, which may need any of it: where that is imported in between,
``usual_imports`` is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

UNUSED = (
    "pydantic.v1",  # FastAPI looks whether a model is of pydantic's first version
    "opentelemetry.sdk.metrics",  # redis-py looks whether it could count for OpenTelemetry, whether asked to or not
)


@contextmanager
def lean_imports() -> Iterator[None]:
    """For the imports of our own code, and for making the application."""
    from pydantic import BaseModel, ConfigDict  # noqa: PLC0415 - background functions have no use for it

    usual = BaseModel.model_config
    left_out = [name for name in UNUSED if name not in sys.modules]
    modules = cast(dict[str, Any], sys.modules)
    modules.update(dict.fromkeys(left_out))  # None: as if it were not there
    BaseModel.model_config = ConfigDict(**usual, defer_build=True)
    try:
        yield
    finally:
        BaseModel.model_config = usual
        for name in left_out:
            if modules.get(name) is None:
                modules.pop(name, None)


@contextmanager
def usual_imports() -> Iterator[None]:
    """For the imports of the user's code, within ``lean_imports`` or not."""
    left_out = [name for name in UNUSED if name in sys.modules and cast(Any, sys.modules[name]) is None]
    for name in left_out:
        del sys.modules[name]
    # whoever makes a model has imported it
    base = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    lean = base.model_config if base is not None else {}
    if base is not None:
        base.model_config = {name: value for name, value in lean.items() if name != "defer_build"}
    try:
        yield
    finally:
        if base is not None:
            base.model_config = lean
        for name in left_out:
            # what the user's code has imported stays
            cast(dict[str, Any], sys.modules).setdefault(name, None)
