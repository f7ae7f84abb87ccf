"""What the dashboard and the alarms ask for is what the code tells and what the stack has."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from templates import ROOT, load, load_nested

from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.function_runtime import METRICS_NAMESPACE, FunctionRuntime
from langgraph_serverless.http.app import RESOURCES

OURS = METRICS_NAMESPACE
#: What AWS says itself (developer guides of Lambda, API Gateway and SQS, "metrics").
AWS = {
    "AWS/Lambda": {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"},
    "AWS/ApiGateway": {"Count", "4XXError", "5XXError", "Latency", "IntegrationLatency"},
    "AWS/SQS": {"ApproximateNumberOfMessagesVisible"},
}


def told_in(path: Path) -> set[str]:
    """The names of metrics that a module tells."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("count", "tell", "measure"):
            for keyword in node.keywords:
                if keyword.arg is not None:
                    names.add(keyword.arg)
                elif "RunSeconds" in ast.unparse(keyword.value):
                    names |= {f"RunSeconds{status.value.title()}" for status in RunStatus if status.is_final}
    return names


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """Function to the metrics that it tells, with its folder as their service."""
    names = defaultdict(
        set, {each: told_in(ROOT / "functions" / each / "handler.py") for each in ("worker", "scheduler")}
    )
    names["worker"] |= told_in(ROOT / "core" / "langgraph_serverless" / "function_build.py")
    for resource in RESOURCES:
        names[resource] = told_in(ROOT / "core" / "langgraph_serverless" / "function_runtime.py")
    return {service: found | {"ColdStart"} for service, found in names.items()} | {"migrate": {"ColdStart"}}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return load(ROOT / "infra" / "observability.yaml")


@pytest.fixture(scope="module")
def functions() -> set[str]:
    """The names of the stack's functions."""
    return {
        resource["Properties"]["FunctionName"]["Fn::Sub"]
        for nested in load_nested().values()
        for resource in nested["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }


def plain(value: Any) -> str:
    """A value of the template as the dashboard's text would write it."""
    if isinstance(value, dict):
        ((tag, text),) = value.items()
        return f"${{{text}}}" if tag == "Ref" else str(text)
    return str(value)


def alarms(template: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            yield name, resource["Properties"]


def of_alarms(template: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Namespace, name and dimensions of every metric."""
    for _, alarm in alarms(template):
        for each in (
            [alarm]
            if "MetricName" in alarm
            else [m["MetricStat"]["Metric"] for m in alarm["Metrics"] if "MetricStat" in m]
        ):
            yield each["Namespace"], each["MetricName"], {d["Name"]: plain(d["Value"]) for d in each["Dimensions"]}


def widgets(template: dict[str, Any]) -> list[dict[str, Any]]:
    text, values = template["Resources"]["Board"]["Properties"]["DashboardBody"]["Fn::Sub"]
    for name, value in values.items():
        _, there, empty = value["Fn::If"]
        assert empty == ""
        text = text.replace(f"${{{name}}}", there["Fn::Sub"])
    return json.loads(text)["widgets"]  # type: ignore[no-any-return]


def of_dashboard(template: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    for widget in widgets(template):
        for namespace, name, *rest in (metric for metric in widget["properties"]["metrics"] if len(metric) > 1):
            pairs = [each for each in rest if isinstance(each, str)]
            yield namespace, name, dict(zip(pairs[::2], pairs[1::2], strict=True))


@pytest.mark.parametrize("metrics", [of_alarms, of_dashboard])
def test_every_metric_is_told_by_somebody(
    metrics: Any, template: dict[str, Any], told: dict[str, set[str]], functions: set[str]
) -> None:
    found = list(metrics(template))
    assert len(found) > 15
    for namespace, name, dimensions in found:
        what = f"{namespace} {name} {dimensions}"
        if namespace != OURS:
            assert name in AWS[namespace], what
        elif name == "ColdStart":  # Powertools' own
            assert dimensions == {
                "function_name": f"${{Prefix}}-{dimensions['service']}",
                "service": dimensions["service"],
            }
        else:
            assert dimensions.keys() == {"deployment", "service"}, what
            assert dimensions["deployment"] == "${Prefix}", what
            assert name in told[dimensions["service"]], what
        for key in ("FunctionName", "function_name"):
            assert key not in dimensions or dimensions[key] in functions, what
        if namespace == "AWS/ApiGateway":
            assert dimensions == {"ApiName": "${Prefix}", "Stage": "${Stage}"}
        if namespace == "AWS/SQS":
            assert dimensions == {"QueueName": "${FailedInvocations}"}


def test_whatever_is_told_can_be_seen(template: dict[str, Any], told: dict[str, set[str]]) -> None:
    seen = {(dimensions["service"], name) for _, name, dimensions in of_dashboard(template) if "service" in dimensions}
    # of a few functions only, or sums of what is seen
    known = {"StreamsCarriedOver", "StreamsAbandoned", "HandOffsLastHour", "RepeatsLastHour"}
    for service, names in told.items():
        assert {name for name in names if (service, name) not in seen} <= known, service


def test_every_alarm_is_named_explained_and_sent(template: dict[str, Any]) -> None:
    found = dict(alarms(template))
    assert len(found) >= 10
    for name, alarm in found.items():
        assert alarm["AlarmName"]["Fn::Sub"] == "${Prefix}" + re.sub("([A-Z])", r"-\1", name).lower()
        assert len(alarm["AlarmDescription"]) > 20
        assert alarm["AlarmActions"] == alarm["OKActions"]
        assert alarm["AlarmActions"]["Fn::If"][0] == "Notifies"
        assert alarm["TreatMissingData"] == {"SchedulerStandsStill": "breaching", "WebhooksAreDead": "ignore"}.get(
            name, "notBreaching"
        )
        ids = [metric["Id"] for metric in alarm.get("Metrics", ())]
        for metric in alarm.get("Metrics", ()):
            if "Expression" in metric:
                used = set(re.findall(r"\b[a-z]\w*\b", metric["Expression"])) - {metric["Id"]}
                assert used <= set(ids)
            else:
                assert metric["ReturnData"] is False
    sums = found["RequestsAreThrottled"]["Metrics"]
    assert {metric["Id"] for metric in sums} == {"total", *RESOURCES}


def test_metrics_of_several_stacks_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop-prod-apart")
    runtime = FunctionRuntime("apart", {"DATABASE_URI": "postgresql://nowhere/none"})
    try:
        for _ in range(2):
            runtime.count(ServerErrors=1, StreamsAbandoned=0)
            runtime.metrics.flush_metrics()
    finally:
        runtime.close()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert len(told) == 2
    for line in told:
        (about,) = line["_aws"]["CloudWatchMetrics"]
        assert sorted(about["Dimensions"][0]) == ["deployment", "service"]
        assert (line["deployment"], line["service"], line["ServerErrors"]) == ("shop-prod", "apart", [1])
        assert "StreamsAbandoned" not in line  # what has not happened costs nothing
