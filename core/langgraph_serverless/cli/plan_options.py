"""The options of ``langgraph-serverless plan``: one for every field of the workload and of the deployment, with its sentence."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import click

from langgraph_serverless.errors import PlanError
from langgraph_serverless.planning.workload import Deployment, Workload

Command = Callable[..., Any]


def options(command: Command) -> Command:
    """An option for every field of the workload and the deployment."""
    for kind in (Deployment, Workload):
        kinds = typing.get_type_hints(kind)
        for each in reversed(fields(kind)):
            command = _option(each, kinds[each.name])(command)
    return command


def _option(each: Field[Any], kind: type) -> Callable[[Command], Command]:
    name = each.name.replace("_", "-")
    about = each.metadata["about"]
    if kind is bool:
        return click.option(f"--{name}/--no-{name}", each.name, default=each.default, show_default=True, help=about)
    number = {int: click.INT, float: click.FLOAT}[kind]
    return click.option(f"--{name}", each.name, type=number, default=each.default, show_default=True, help=about)


def factors(scale: str) -> list[float]:
    """The numbers of ``--scale``, with commas.

    Raises:
        PlanError: for what is no number above 0.
    """
    try:
        found = [float(part) for part in scale.split(",") if part.strip()]
    except ValueError as error:
        raise PlanError(f"--scale wants numbers with commas, as 10,100; not {scale!r}.") from error
    if any(not 0 < factor < float("inf") for factor in found):
        raise PlanError(f"--scale wants numbers above 0; not {scale!r}.")
    return found
