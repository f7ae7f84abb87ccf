"""The template and the code say the same: routes, handlers, variables; and a function may do no more than it needs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.function_secrets import SECRET_SETTINGS
from langgraph_serverless.http.app import RESOURCES, create_app
from langgraph_serverless.settings import Settings

ROOT = Path(__file__).parents[2]
HANDLER = re.compile(r"langgraph_serverless_functions\.(\w+)\.handler\.handler")
ANY = "x-amazon-apigateway-any-method"


class TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags: ``!Ref x`` becomes ``{"Ref": "x"}``, ``!Sub x`` ``{"Fn::Sub": "x"}``."""


def _tag(loader: TemplateLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


TemplateLoader.add_multi_constructor("!", _tag)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return yaml.load((ROOT / "template.yaml").read_text(), TemplateLoader)


@pytest.fixture(scope="module")
def functions(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Folder below ``functions/`` to the function's properties."""
    found = {}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            match = HANDLER.fullmatch(resource["Properties"]["Handler"])
            assert match, resource["Properties"]["Handler"]
            found[match[1]] = resource["Properties"]
    return found


@pytest.fixture(scope="module")
def integrations(template: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Path in the API to what is behind it."""
    paths = template["Resources"]["Api"]["Properties"]["DefinitionBody"]["paths"]
    # nothing else is a method for API Gateway, which would leave out what it does not know
    assert all(set(methods) == {ANY} for methods in paths.values())
    return {path: methods[ANY]["x-amazon-apigateway-integration"] for path, methods in paths.items()}


@pytest.fixture(scope="module")
def paths(integrations: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Path in the API to the function that has it; names of parameters left out."""
    owners: dict[str, str] = {}
    for path, integration in integrations.items():
        assert shape(path) not in owners, f"{path} has two functions"
        (owners[shape(path)],) = {
            name.lower() for name in re.findall(r"functions/\${(\w+)Function\.Arn}", str(integration))
        }
    return owners


def shape(path: str) -> str:
    return re.sub(r"\{(\w+)(:\w+)?\}", "{}", path)


def routes(resource: str) -> set[str]:
    """Paths that the application of one function serves."""
    container = ApiContainer(Settings.from_env({"DATABASE_URI": "postgresql://nowhere/none"}))
    app = create_app(container, resources=(resource,))
    found = {shape(getattr(route, "path", "")) for route in app.routes}
    assert found, f"{resource} serves nothing"
    return found


@pytest.mark.parametrize("resource", [name for name in RESOURCES if name != "system"])
def test_every_route_leads_to_the_function_that_serves_it(resource: str, paths: dict[str, str]) -> None:
    assert routes(resource) == {path for path, owner in paths.items() if owner == resource}


def test_what_no_other_function_has_goes_to_system(paths: dict[str, str]) -> None:
    assert {path for path, owner in paths.items() if owner == "system"} == {"/", "/{proxy+}"}
    assert routes("system") >= {"/", "/ok", "/info", "/metrics", "/docs", "/openapi.json"}
    assert not routes("system") & (paths.keys() - {"/"})


def test_every_handler_is_deployed_and_exists(functions: dict[str, dict[str, Any]]) -> None:
    assert set(functions) == {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}


def test_the_api_may_call_whom_it_leads_to_and_nobody_else(template: dict[str, Any], paths: dict[str, str]) -> None:
    allowed = set()
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Lambda::Permission":
            permission = resource["Properties"]
            assert permission["Principal"] == "apigateway.amazonaws.com"
            assert permission["SourceArn"]["Fn::Sub"].endswith("${Api}/${Stage}/*")
            allowed.add(permission["FunctionName"]["Fn::GetAtt"].removesuffix("Function.Arn").lower())
    assert allowed == set(paths.values())


def test_siblings_name_their_path_parameter_alike(integrations: dict[str, dict[str, Any]]) -> None:
    """API Gateway refuses ``/threads/{id}`` beside ``/threads/{thread_id}/runs``."""
    names: dict[str, str] = {}
    for path in integrations:
        parts = path.split("/")
        for place, part in enumerate(parts):
            if part.startswith("{") and not part.endswith("+}"):
                assert names.setdefault(shape("/".join(parts[:place])), part) == part


def test_every_variable_is_a_setting(template: dict[str, Any], functions: dict[str, dict[str, Any]]) -> None:
    known = {*Settings.variables(), *(f"{name}_SECRET" for name in SECRET_SETTINGS), "AWS_LAMBDA_EXEC_WRAPPER"}
    given = set(template["Globals"]["Function"]["Environment"]["Variables"])
    for function in functions.values():
        given |= set(function.get("Environment", {}).get("Variables", {}))
    assert given <= known


def statements(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            yield from resource["Properties"]["PolicyDocument"]["Statement"]


def test_no_permission_is_wider_than_one_action_on_named_resources(template: dict[str, Any]) -> None:
    found = list(statements(template))
    assert len(found) == 4
    for statement in found:
        assert statement["Action"] in ("secretsmanager:GetSecretValue", "lambda:InvokeFunction")
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for resource in resources:
            assert "*" not in resource["Fn::Sub"]


def test_who_sends_webhooks_may_read_their_secrets_and_nobody_else(functions: dict[str, dict[str, Any]]) -> None:
    readers = {name for name, function in functions.items() if {"Ref": "ReadWebhookSecrets"} in function["Policies"]}
    knowing = {
        name
        for name, function in functions.items()
        if {"WEBHOOK_SIGNING_SECRETS_SECRET", "WEBHOOK_VARIABLES_SECRET"}
        & set(function.get("Environment", {}).get("Variables", {}))
    }
    assert readers == knowing == {"worker", "scheduler"}


def test_who_may_wake_the_worker_knows_it_and_nobody_else(functions: dict[str, dict[str, Any]]) -> None:
    for name, function in functions.items():
        variables = function.get("Environment", {}).get("Variables", {})
        assert {"Ref": "ReadSecrets"} in function["Policies"]
        assert ({"Ref": "WakeWorker"} in function["Policies"]) == ("WORKER_FUNCTION_NAME" in variables), name
    wakers = {name for name, function in functions.items() if {"Ref": "WakeWorker"} in function["Policies"]}
    assert wakers == {"runs", "stream", "worker", "scheduler"}


def test_who_may_call_the_state_function_knows_it_and_nobody_else(functions: dict[str, dict[str, Any]]) -> None:
    callers = {name for name, function in functions.items() if {"Ref": "CallState"} in function["Policies"]}
    knowing = {
        name
        for name, function in functions.items()
        if "STATE_FUNCTION_NAME" in function.get("Environment", {}).get("Variables", {})
    }
    assert callers == knowing == {"assistants", "threads", "store", "runs", "stream", "scheduler"}


def test_the_worker_is_not_retried_by_lambda(functions: dict[str, dict[str, Any]]) -> None:
    invocation = functions["worker"]["EventInvokeConfig"]
    assert invocation["MaximumRetryAttempts"] == 0
    assert invocation["DestinationConfig"]["OnFailure"]["Type"] == "SQS"
    assert functions["worker"]["Timeout"] == 900


def test_one_parameter_decides_how_streams_are_answered(
    template: dict[str, Any], functions: dict[str, dict[str, Any]], integrations: dict[str, dict[str, Any]]
) -> None:
    """Nothing behind a streaming path may answer in the format of the others, nor the other way round."""
    mode = template["Parameters"]["ResponseTransferMode"]
    assert (mode["Default"], set(mode["AllowedValues"])) == ("RESPONSE_STREAM", {"RESPONSE_STREAM", "BUFFERED"})
    assert template["Conditions"]["Streams"] == {"Fn::Equals": [{"Ref": "ResponseTransferMode"}, "RESPONSE_STREAM"]}
    for integration in integrations.values():
        if "StreamFunction" not in str(integration):
            assert integration.keys() == {"type", "httpMethod", "uri"}
            assert "/2015-03-31/" in integration["uri"]["Fn::Sub"]
            continue
        condition, streaming, buffered = integration["uri"]["Fn::If"]
        assert condition == "Streams"
        assert streaming["Fn::Sub"].endswith(
            "/2021-11-15/functions/${StreamFunction.Arn}/response-streaming-invocations"
        )
        assert buffered["Fn::Sub"].endswith("/2015-03-31/functions/${StreamFunction.Arn}/invocations")
        assert integration["responseTransferMode"] == {"Fn::If": ["Streams", "STREAM", "BUFFERED"]}
        assert integration["timeoutInMillis"] == {"Fn::If": ["Streams", 900_000, 29_000]}
    assert functions["stream"]["Timeout"] == {"Fn::If": ["Streams", 900, 30]}
    condition, wrapper, without = functions["stream"]["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"]["Fn::If"]
    assert (condition, without) == ("Streams", {"Ref": "AWS::NoValue"})
    script = ROOT / wrapper.replace("/var/task/langgraph_serverless_functions", "functions")
    assert os.access(script, os.X_OK)


def test_cfn_lint_finds_nothing() -> None:
    cfn_lint = Path(sys.executable).with_name("cfn-lint")
    done = subprocess.run([cfn_lint, ROOT / "template.yaml"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_whoever_invokes_or_counts_workers_knows_how_many_runs_one_takes(functions: dict[str, dict[str, Any]]) -> None:
    variables = {name: function.get("Environment", {}).get("Variables", {}) for name, function in functions.items()}
    for name, given in variables.items():
        if "WORKER_FUNCTION_NAME" in given or name == "system":
            assert given.get("N_JOBS_PER_WORKER") == variables["worker"]["N_JOBS_PER_WORKER"], name
