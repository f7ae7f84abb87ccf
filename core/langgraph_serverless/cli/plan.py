"""``langgraph-serverless plan``: what a load needs and costs on AWS, and what gives way first when it grows.

The options are the fields of ``planning.workload``; prices are given as ``--price NAME=DOLLARS``. Asks nobody and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import click

from langgraph_serverless.errors import PlanError
from langgraph_serverless.planning.estimate import DAYS_PER_MONTH, Estimate, estimate
from langgraph_serverless.planning.limits import Limit, limits
from langgraph_serverless.planning.workload import Deployment, Prices, Workload

#: What a limit says when nobody comes near it.
NEAR = 0.5


def plan(*, numbers: dict[str, Any], prices: Sequence[str], scale: Sequence[float], seed: int, as_json: bool) -> None:
    """Write the estimate, and the limits at every factor of ``scale``."""
    workload = Workload(**_of(Workload, numbers))
    deployment = Deployment(**_of(Deployment, numbers))
    priced = _prices(prices)
    found = []
    for factor in sorted({1.0, *scale}):
        grown = replace(workload, runs_per_day=workload.runs_per_day * factor)
        made = estimate(grown, deployment, priced, seed=seed)
        found.append((factor, made, limits(made, deployment)))
    lines = [_json(found)] if as_json else _text(found)
    for line in lines:
        click.echo(line)


def _of(kind: type, numbers: dict[str, Any]) -> dict[str, Any]:
    return {each.name: numbers[each.name] for each in fields(kind)}


def _prices(given: Sequence[str]) -> Prices:
    known = {each.name for each in fields(Prices)}
    chosen: dict[str, float] = {}
    for pair in given:
        name, equals, dollars = pair.partition("=")
        if name not in known or not equals:
            raise PlanError(
                f"--price wants NAME=DOLLARS with one of the names {', '.join(sorted(known))}; not {pair!r}."
            )
        try:
            chosen[name] = float(dollars)
        except ValueError as error:
            raise PlanError(f"--price {name} must be a number and is {dollars!r}.") from error
    return Prices(**chosen)


def _json(found: Sequence[tuple[float, Estimate, list[Limit]]]) -> str:
    return json.dumps(
        [
            {
                "factor": factor,
                **asdict(made),
                "dollars_a_month": made.dollars,
                "dollars_per_thousand_runs": made.dollars_per_thousand_runs,
                "limits": [{**asdict(limit), "share": limit.share} for limit in near],
            }
            for factor, made, near in found
        ],
        indent=2,
    )


def _text(found: Sequence[tuple[float, Estimate, list[Limit]]]) -> Iterator[str]:
    _, made, _ = found[0]
    yield from _day(made)
    yield ""
    yield from _month(made)
    for factor, grown, near in found:
        yield ""
        yield from _growth(factor, grown, near)


def _day(made: Estimate) -> Iterator[str]:
    workers = made.workers
    yield f"A day with {made.workload.runs_per_day:,.0f} runs"
    yield f"  {'function':<12}{'invocations':>14}{'GB-seconds':>14}{'most at once':>14}"
    for name, use in made.functions.items():
        yield f"  {name:<12}{use.invocations:>14,.0f}{use.gb_seconds:>14,.0f}{use.peak:>14,.0f}"
    yield (
        f"  Runs wait for a worker {workers.wait_p50:.1f} s (p50), {workers.wait_p95:.1f} s (p95), {workers.wait_p99:.1f} s (p99); "
        f"{workers.cold_starts:,.0f} cold starts of workers, {workers.hand_offs:,.0f} hand-offs."
    )
    database, cache = made.database, made.cache
    yield (
        f"  Database: {_bytes(database.gb_per_day)} a day, {_bytes(database.gb_kept)} after {made.workload.keep_days:g} days; in the busiest hour "
        f"{database.commits_per_second:,.1f} commits/s, {database.acu:,.2f} ACU, {database.connections:,.0f} connections."
    )
    yield (
        f"  Cache, in the busiest hour: {_bytes(cache.gigabytes)}, {cache.megabytes_per_second:,.2f} MB/s, "
        f"{cache.commands_per_second:,.0f} commands/s."
    )


def _bytes(gigabytes: float) -> str:
    return f"{gigabytes:,.1f} GB" if gigabytes >= 1 else f"{gigabytes * 1000:,.1f} MB"


def _month(made: Estimate) -> Iterator[str]:
    yield f"A month ({DAYS_PER_MONTH:.1f} days)"
    for name, dollars in made.costs.items():
        yield f"  {name:<24}{dollars:>12,.2f} $"
    yield f"  {'together':<24}{made.dollars:>12,.2f} $   ({made.dollars_per_thousand_runs:.3f} $ per 1,000 runs)"


def _growth(factor: float, grown: Estimate, near: Sequence[Limit]) -> Iterator[str]:
    title = f"x {factor:g}: {grown.workload.runs_per_day:,.0f} runs a day, {grown.dollars:,.0f} $ a month"
    close = [limit for limit in near if limit.share >= NEAR]
    yield f"{title}; {'nothing is near its limit' if not close else 'near or over their limits:'}"
    for limit in close:
        state = "OVER" if limit.reached else "near"
        yield f"  {state}  {limit.name}: {limit.need:,.4g} of {limit.limit:,.4g} {limit.unit}"
        yield f"        {limit.advice}"
