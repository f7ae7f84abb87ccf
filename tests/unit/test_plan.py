"""``langgraph-serverless plan``: the played day follows the queue's rules, and the sums add up."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from langgraph_serverless.cli.main import main
from langgraph_serverless.errors import PlanError
from langgraph_serverless.planning.estimate import DAYS_PER_MONTH, estimate
from langgraph_serverless.planning.limits import limits
from langgraph_serverless.planning.workers import hourly_rates, play_day
from langgraph_serverless.planning.workload import Deployment, Prices, Workload

WORKLOAD, DEPLOYMENT, PRICES = Workload(), Deployment(), Prices()


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments])


@pytest.mark.parametrize("peak", [1, 1.5, 4, 12, 23])
def test_the_hours_have_all_runs_and_the_busiest_has_its_share(peak: float) -> None:
    rates = hourly_rates(replace(WORKLOAD, peak_factor=peak, runs_per_day=24_000))
    assert len(rates) == 24
    assert sum(rates) == pytest.approx(24_000)
    assert max(rates) == pytest.approx(peak * 1000, rel=0.01)


def test_few_runs_each_have_a_worker_that_stays_for_its_grace() -> None:
    """Ten runs a day never meet: each is one invocation of its own time, the cold start and the grace."""
    deployment = replace(DEPLOYMENT, idle_grace_seconds=20, cold_start_seconds=2, warm_seconds=0)
    days = [play_day(Workload(runs_per_day=10, run_seconds=5), deployment, seed=seed) for seed in range(20)]
    invocations = sum(day.invocations for day in days)
    assert 150 < invocations < 250
    assert sum(day.seconds for day in days) / invocations == pytest.approx(27, rel=0.1)
    assert all(day.peak_workers <= 2 and day.wait_p50 == 2 and not day.hand_offs for day in days)


def test_many_runs_share_workers_that_are_nearly_full() -> None:
    workload = Workload(runs_per_day=2_000_000, peak_factor=1, run_seconds=20)
    day = play_day(workload, DEPLOYMENT)
    needed = workload.runs_per_day * workload.run_seconds / DEPLOYMENT.jobs_per_worker
    assert 1.0 < day.seconds / needed < 1.35
    assert day.peak_workers == pytest.approx(needed / 86_400, rel=0.35)
    # a worker lives until its time limit, and hands over what it has
    assert day.invocations == pytest.approx(day.seconds / 840, rel=0.25)
    assert day.hand_offs == pytest.approx(day.invocations * DEPLOYMENT.jobs_per_worker, rel=0.25)
    assert day.wait_p95 < 0.2


def test_a_run_that_outlives_its_function_is_carried_on_by_one_worker_after_the_other() -> None:
    day = play_day(Workload(runs_per_day=24, peak_factor=1, run_seconds=3600), DEPLOYMENT, seed=3)
    assert day.hand_offs >= 24 * 3600 / 840 * 0.6
    assert day.peak_workers <= 4


def test_a_limit_of_workers_makes_runs_wait() -> None:
    workload = Workload(runs_per_day=100_000, peak_factor=2, run_seconds=20)
    free, limited = play_day(workload, DEPLOYMENT), play_day(workload, replace(DEPLOYMENT, worker_concurrency=3))
    assert free.peak_workers > 3
    assert limited.peak_workers == 3
    assert free.wait_p95 < 2
    assert limited.wait_p95 > 20


def test_the_same_seed_plays_the_same_day() -> None:
    assert play_day(WORKLOAD, DEPLOYMENT, seed=7) == play_day(WORKLOAD, DEPLOYMENT, seed=7)
    assert play_day(WORKLOAD, DEPLOYMENT, seed=7) != play_day(WORKLOAD, DEPLOYMENT, seed=8)


def test_what_is_left_out_of_a_large_day_changes_little() -> None:
    small = play_day(Workload(runs_per_day=1_000_000), DEPLOYMENT)
    large = play_day(Workload(runs_per_day=10_000_000), DEPLOYMENT)
    assert large.seconds / small.seconds == pytest.approx(10, rel=0.15)
    assert large.peak_workers / small.peak_workers == pytest.approx(10, rel=0.25)


def test_a_bill_by_hand() -> None:
    """One part after the other, for a load that is easy to count."""
    workload = Workload(
        runs_per_day=1000,
        peak_factor=1,
        run_seconds=10,
        followed=1,
        requests=2,
        events=100,
        event_bytes=1000,
        answer_kb=10,
    )
    deployment = replace(DEPLOYMENT, api_mb=1024, request_ms=100, nat_gateways=1, endpoints=2)
    made = estimate(workload, deployment, PRICES)
    assert made.functions["api"].invocations == 2000
    assert made.functions["api"].gb_seconds == pytest.approx(200)
    assert made.functions["stream"].invocations == 1000
    assert made.functions["stream"].gb_seconds == pytest.approx(10_000, rel=0.2)  # and what runs wait for a worker
    assert made.functions["scheduler"].invocations == 1440
    assert made.costs["API Gateway"] == pytest.approx(3000 * DAYS_PER_MONTH / 1e6 * 3.50)
    assert made.costs["Data to the internet"] == pytest.approx(1000 * DAYS_PER_MONTH * 120_000 / 1e9 * 0.09)
    assert made.costs["Database, capacity"] == pytest.approx(0.5 * 24 * DAYS_PER_MONTH * 0.12)  # it is idle
    assert made.costs["Network"] == pytest.approx((0.045 + 0.02) * 24 * DAYS_PER_MONTH)
    assert made.dollars == pytest.approx(sum(made.costs.values()))
    assert made.dollars_per_thousand_runs == pytest.approx(made.dollars / DAYS_PER_MONTH)


def test_an_idle_stack_costs_ticks_storage_and_what_is_rented() -> None:
    made = estimate(Workload(runs_per_day=1), replace(DEPLOYMENT, nat_gateways=0, endpoints=0), PRICES)
    assert sum(dollars for name, dollars in made.costs.items() if name.startswith("Lambda")) < 0.25


def test_a_stream_that_outlives_its_function_is_several_invocations() -> None:
    made = estimate(Workload(runs_per_day=100, run_seconds=2000, followed=1), DEPLOYMENT, PRICES)
    assert made.functions["stream"].invocations == 300


@pytest.mark.parametrize(
    ("workload", "deployment", "first"),
    [
        ({"runs_per_day": 1_000_000, "events": 10}, {"max_acu": 8}, "Connections to the database"),
        ({"runs_per_day": 1_200_000, "events": 10}, {"database_proxy": True, "max_acu": 8}, "Concurrent invocations"),
        (
            {"runs_per_day": 5_000_000, "run_seconds": 1, "events": 1},
            {"database_proxy": True, "max_acu": 64},
            "Runs begun",
        ),
        ({"runs_per_day": 100_000, "supersteps": 500, "state_kb": 50}, {"max_acu": 1}, "Database capacity"),
        ({"runs_per_day": 100_000, "events": 20_000}, {"database_proxy": True}, "Cache, processing"),
        (
            {"runs_per_day": 10_000, "state_kb": 5_000, "keep_days": 365},
            {"max_acu": 64, "jobs_per_worker": 1},
            "Database size",
        ),
        ({"runs_per_day": 50_000, "stream_ttl_seconds": 86_400}, {"database_proxy": True}, "Cache, memory"),
        ({"runs_per_day": 1_000, "run_cpu_ms": 20_000}, {}, "A worker's processor"),
        ({"runs_per_day": 50_000}, {"worker_concurrency": 1}, "Workers"),
        (
            {"runs_per_day": 1_000_000, "requests": 500},
            {"database_proxy": True, "max_acu": 256, "cache_max_ecpu": 1e6},
            "Requests to the API",
        ),
    ],
)
def test_each_limit_is_the_nearest_of_some_load(
    workload: dict[str, Any], deployment: dict[str, Any], first: str
) -> None:
    stack = Deployment(**deployment)
    nearest, *rest = limits(estimate(Workload(**workload), stack, PRICES), stack)
    assert (nearest.name, nearest.reached) == (first, True), [(limit.name, limit.share) for limit in (nearest, *rest)]
    assert nearest.advice
    assert all(limit.share <= nearest.share for limit in rest)


def test_the_command_says_it_in_words() -> None:
    done = command("--runs-per-day", "1000000", "--scale", "10")
    assert done.exit_code == 0, done.output
    assert "A day with 1,000,000 runs" in done.output
    assert "x 10: 10,000,000 runs a day" in done.output
    assert "OVER  Concurrent invocations" in done.output


def test_the_command_says_it_in_json() -> None:
    done = command("--json", "--scale", "2", "--price", "acu_hour=1")
    first, second = json.loads(done.output)
    assert (first["factor"], second["factor"]) == (1.0, 2.0)
    assert first["workload"]["runs_per_day"] == 10_000
    assert first["costs"]["Database, capacity"] == pytest.approx(0.5 * 24 * DAYS_PER_MONTH)
    assert first["dollars_a_month"] == pytest.approx(sum(first["costs"].values()))
    assert {limit["name"] for limit in first["limits"]} >= {"Concurrent invocations", "Runs begun"}


def test_every_field_is_an_option() -> None:
    text = command("--help").output
    for each in (*fields(Workload), *fields(Deployment)):
        assert f"--{each.name.replace('_', '-')}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--runs-per-day", "0"), "runs_per_day must be at least 1"),
        (("--followed", "1.5"), "followed must be at least 0 and at most 1"),
        (("--followed", "nan"), "followed must be at least 0"),
        (("--margin-seconds", "500"), "margin_seconds must be at most half"),
        (("--min-acu", "9"), "min_acu must be at most max_acu"),
        (("--price", "gold=1"), "--price wants NAME=DOLLARS"),
        (("--price", "acu_hour=dear"), "acu_hour must be a number"),
        (("--scale", "0"), "--scale wants numbers above 0"),
        (("--scale", "ten"), "--scale wants numbers"),
        (
            ("--runs-per-day", "1e9", "--run-seconds", "1", "--scale", "1000"),
            "runs_per_day must be at least 1 and at most",
        ),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_a_sentence(arguments: tuple[str, ...], words: str) -> None:
    done = command(*arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output


def test_a_field_is_named_by_its_error() -> None:
    with pytest.raises(PlanError, match="peak_factor"):
        Workload(peak_factor=25)


def test_the_guide_shows_what_the_command_prints() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "scaling.md").read_text()
    (arguments,) = re.findall(r"^langgraph-serverless plan (--runs-per-day .*)$", guide, re.MULTILINE)
    shown = "\n\n".join(block.strip() for block in re.findall(r"```text\n(.*?)```", guide, re.DOTALL))
    assert command(*arguments.split()).output.strip() == shown
