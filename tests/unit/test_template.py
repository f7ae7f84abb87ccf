"""The templates and the code say the same: routes, handlers, names, variables. What a function may do is in tests/security."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from templates import ROOT, load, load_root, text

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.function_secrets import SECRET_SETTINGS
from langgraph_serverless.http.app import RESOURCES, create_app
from langgraph_serverless.settings import Settings

HANDLER = re.compile(r"langgraph_serverless_functions\.(\w+)\.handler\.handler")
ANY = "x-amazon-apigateway-any-method"
#: Functions whose answers are sent as they come.
STREAMING = {"stream", "mcp", "a2a", "app"}


@pytest.fixture(scope="module")
def root() -> dict[str, Any]:
    return load_root()


@pytest.fixture(scope="module")
def nested(root: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every nested stack by its file's name: ``api``, ``workers`` and so on."""
    stacks = [each for each in root["Resources"].values() if each["Type"] == "AWS::CloudFormation::Stack"]
    files = [Path(stack["Properties"]["TemplateURL"]) for stack in stacks]
    assert {ROOT / file for file in files} == set((ROOT / "infra").glob("*.yaml")), "a template that nobody deploys"
    return {file.stem: load(ROOT / file) for file in files}


@pytest.fixture(scope="module")
def functions(nested: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Folder below ``functions/`` to the function's properties, with what its template says for all."""
    found = {}
    for template in nested.values():
        common = template.get("Globals", {}).get("Function", {})
        for resource in template["Resources"].values():
            if resource["Type"] == "AWS::Serverless::Function":
                own = resource["Properties"]
                match = HANDLER.fullmatch(own["Handler"])
                assert match, own["Handler"]
                variables = {**common["Environment"]["Variables"], **own.get("Environment", {}).get("Variables", {})}
                found[match[1]] = {**common, **own, "Environment": {"Variables": variables}}
    return found


@pytest.fixture(scope="module")
def variables(functions: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Folder to the function's variables."""
    return {name: function["Environment"]["Variables"] for name, function in functions.items()}


@pytest.fixture(scope="module")
def integrations(nested: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Path in the API to what is behind it."""
    paths = nested["api"]["Resources"]["Api"]["Properties"]["DefinitionBody"]["paths"]
    for methods in paths.values():
        # nothing else is a method for API Gateway, which would leave out what it does not know
        assert set(methods) == {ANY, "options"}
        # a preflight has no key, and so it must have a method without one where keys are needed
        condition, preflight, nothing = methods["options"]["Fn::If"]
        assert (condition, nothing) == ("NeedsApiKey", {"Ref": "AWS::NoValue"})
        assert preflight["x-amazon-apigateway-integration"] == methods[ANY]["x-amazon-apigateway-integration"]
        assert methods[ANY]["security"]["Fn::If"][:2] == ["NeedsApiKey", [{"api_key": []}]]
    return {path: methods[ANY]["x-amazon-apigateway-integration"] for path, methods in paths.items()}


@pytest.fixture(scope="module")
def paths(integrations: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Path in the API to the function that has it; names of parameters left out."""
    owners: dict[str, str] = {}
    for path, given in integrations.items():
        integration = without_app(given) if "AppFunction" in str(given) else given
        assert shape(path) not in owners, f"{path} has two functions"
        (owners[shape(path)],) = {name.lower() for name in re.findall(r"'(\w+)Function\.Arn'", str(integration["uri"]))}
        (alias,) = re.findall(r"'(\w+)Alias'", str(integration["uri"]))[:1]
        assert alias.lower() == owners[shape(path)]
    return owners


def shape(path: str) -> str:
    # API Gateway knows no slash at the end
    return re.sub(r"\{(\w+)(:\w+)?\}", "{}", path).rstrip("/") or "/"


def without_app(integration: dict[str, Any]) -> dict[str, Any]:
    """What it is for a project that has no application of its own."""
    nothing = {"Ref": "AWS::NoValue"}
    chosen = {
        name: value["Fn::If"][2] if name not in ("type", "httpMethod") else value for name, value in integration.items()
    }
    assert all(integration[name]["Fn::If"][0] == "ServesApp" for name in integration.keys() - {"type", "httpMethod"})
    return {name: value for name, value in chosen.items() if value != nothing}


def with_app(integration: dict[str, Any]) -> dict[str, Any]:
    """What it is for one that has."""
    return {
        name: value if name in ("type", "httpMethod") else value["Fn::If"][1] for name, value in integration.items()
    }


def routes(resource: str) -> set[str]:
    """Paths that the application of one function serves."""
    container = ApiContainer(Settings.from_env({"DATABASE_URI": "postgresql://nowhere/none"}), manifest=Manifest.of({}))
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


def test_the_projects_own_application_has_a_function_only_if_there_is_one(
    nested: dict[str, dict[str, Any]], integrations: dict[str, dict[str, Any]]
) -> None:
    assert {path for path, each in integrations.items() if "AppFunction" in str(each)} == {"/", "/{proxy+}"}
    api = nested["api"]
    assert api["Conditions"]["ServesApp"] == {"Fn::Equals": [{"Ref": "ProjectApp"}, "true"]}
    assert api["Conditions"]["PublishesApp"] == {"Fn::And": [{"Condition": "Published"}, {"Condition": "ServesApp"}]}
    theirs = {
        name: each.get("Condition") for name, each in api["Resources"].items() if re.match("(Call)?App[A-Z]", name)
    }
    assert theirs == {
        **dict.fromkeys(["AppFunction", "AppRole", "AppLogs", "CallAppFromApi"], "ServesApp"),
        **dict.fromkeys(["AppVersion", "AppAlias"], "PublishesApp"),
    }


def test_every_handler_is_deployed_and_exists(functions: dict[str, dict[str, Any]]) -> None:
    assert set(functions) == {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}


def test_every_function_is_named_after_the_stack_and_its_folder(functions: dict[str, dict[str, Any]]) -> None:
    for name, function in functions.items():
        assert function["FunctionName"] == {"Fn::Sub": f"${{Prefix}}-{name}"}


def test_names_made_of_the_stacks_fit(nested: dict[str, dict[str, Any]], functions: dict[str, dict[str, Any]]) -> None:
    """Lambda takes 64 characters. Every stack refuses a longer name, so that the first one does, before anything is made."""
    longest = max(len(f"-{name}") for name in functions)
    for name, template in nested.items():
        assert template["Parameters"]["Prefix"]["MaxLength"] == 64 - longest, name


def subnets(network: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: each for name, each in network["Resources"].items() if each["Type"] == "AWS::EC2::Subnet"}


def test_a_zone_that_lacks_a_service_can_be_left_out(nested: dict[str, dict[str, Any]]) -> None:
    zones = {"Fn::If": ["NamesZones", {"Ref": "ZoneNames"}, {"Fn::GetAZs": {"Ref": "AWS::Region"}}]}
    where = {name: each["Properties"]["AvailabilityZone"] for name, each in subnets(nested["network"]).items()}
    assert where == {
        "PrivateSubnetA": {"Fn::Select": [0, zones]},
        "PrivateSubnetB": {"Fn::Select": [1, zones]},
        "PrivateSubnetC": {"Fn::Select": [2, zones]},
        "PublicSubnet": {"Fn::Select": [0, zones]},
    }


def test_every_network_that_may_be_asked_for_can_be_cut(
    root: dict[str, Any], nested: dict[str, dict[str, Any]]
) -> None:
    allowed = nested["network"]["Parameters"]["Cidr"]["AllowedPattern"]
    assert root["Parameters"]["NetworkCidr"]["AllowedPattern"] == allowed
    sizes = [size for size in range(33) if re.fullmatch(allowed, f"10.0.0.0/{size}")]
    assert (sizes[0], sizes[-1]) == (16, 21)  # a VPC has 65,536 addresses at most
    for subnet in subnets(nested["network"]).values():
        index, cut = subnet["Properties"]["CidrBlock"]["Fn::Select"]
        _, count, bits = cut["Fn::Cidr"]
        assert index < count
        assert count * 2**bits <= 2 ** (32 - sizes[-1])


def test_the_api_may_call_whom_it_leads_to_and_nobody_else(
    nested: dict[str, dict[str, Any]], paths: dict[str, str]
) -> None:
    allowed = set()
    for resource in (each for template in nested.values() for each in template["Resources"].values()):
        permission = resource["Properties"]
        if resource["Type"] == "AWS::Lambda::Permission" and permission["Principal"] == "apigateway.amazonaws.com":
            assert permission["SourceArn"]["Fn::Sub"].endswith("${Api}/${Stage}/*")
            condition, alias, function = permission["FunctionName"]["Fn::If"]
            name = function["Fn::GetAtt"].removesuffix("Function.Arn")
            assert (condition, alias) == ("Published", {"Ref": f"{name}Alias"})
            allowed.add(name.lower())
    assert allowed == {*paths.values(), "app"}


def test_whatever_a_parameter_of_a_nested_stack_defaults_to_the_root_decides(
    root: dict[str, Any], nested: dict[str, dict[str, Any]]
) -> None:
    """A parameter that the stack of functions forgets would be a setting that does nothing."""
    for resource in root["Resources"].values():
        name = Path(resource["Properties"]["TemplateURL"]).stem
        if name in ("api", "workers"):
            assert set(resource["Properties"]["Parameters"]) == set(nested[name]["Parameters"])


def test_every_parameter_is_used_described_and_shown_in_its_group(root: dict[str, Any]) -> None:
    groups = root["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [name for group in groups for name in group["Parameters"]]
    assert sorted(shown) == sorted(root["Parameters"])
    used = str(root["Resources"]) + str(root["Conditions"])
    for name, parameter in root["Parameters"].items():
        assert len(parameter["Description"]) > 10, name
        assert f"'{name}'" in used or f"${{{name}}}" in used, name
        assert "Default" in parameter, f"{name}: whoever deploys for the first time should have to give nothing"


def test_siblings_name_their_path_parameter_alike(integrations: dict[str, dict[str, Any]]) -> None:
    """API Gateway refuses ``/threads/{id}`` beside ``/threads/{thread_id}/runs``."""
    names: dict[str, str] = {}
    for path in integrations:
        parts = path.split("/")
        for place, part in enumerate(parts):
            if part.startswith("{") and not part.endswith("+}"):
                assert names.setdefault(shape("/".join(parts[:place])), part) == part


def test_the_guide_has_every_parameter(root: dict[str, Any]) -> None:
    guide = (ROOT / "docs" / "guides" / "running-on-lambda.md").read_text()
    table = guide[guide.index("## Parameters") : guide.index("### Network")]
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", table))
    assert set(root["Parameters"]) <= named


def test_every_variable_is_a_setting(variables: dict[str, dict[str, Any]]) -> None:
    known = {
        *Settings.variables(),
        *(f"{name}_SECRET" for name in SECRET_SETTINGS),
        "DATABASE_HOST",
        "AWS_LAMBDA_EXEC_WRAPPER",
        # OpenTelemetry's
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
    }
    for name, given in variables.items():
        assert set(given) <= known, name


def test_who_sends_webhooks_knows_their_secrets_and_nobody_else(variables: dict[str, dict[str, Any]]) -> None:
    secrets = {"WEBHOOK_SIGNING_SECRETS_SECRET", "WEBHOOK_VARIABLES_SECRET"}
    assert {name for name, given in variables.items() if secrets & set(given)} == {"worker", "scheduler"}


def test_who_wakes_the_worker_knows_it_and_nobody_else(variables: dict[str, dict[str, Any]]) -> None:
    knowing = {name for name, given in variables.items() if "WORKER_FUNCTION_NAME" in given}
    assert knowing == {"runs", "stream", "mcp", "a2a", "app", "worker", "scheduler"}


def test_who_asks_the_state_function_knows_it_and_nobody_else(variables: dict[str, dict[str, Any]]) -> None:
    knowing = {name for name, given in variables.items() if "STATE_FUNCTION_NAME" in given}
    assert knowing == {"assistants", "threads", "store", "runs", "stream", "mcp", "a2a", "app", "scheduler"}


def test_who_has_no_use_for_redis_does_not_get_it(variables: dict[str, dict[str, Any]]) -> None:
    assert {name for name, given in variables.items() if "REDIS_URI" not in given} == {"store", "migrate"}
    for name in ("REDIS_URI", "REDIS_URI_SECRET"):  # only where the scheduler is to be woken for a new cron
        condition, _, without = variables["crons"][name]["Fn::If"]
        assert (condition, without) == ("Naps", {"Ref": "AWS::NoValue"})


def test_the_worker_is_not_retried_by_lambda(functions: dict[str, dict[str, Any]]) -> None:
    invocation = functions["worker"]["EventInvokeConfig"]
    assert invocation["MaximumRetryAttempts"] == 0
    assert invocation["MaximumEventAgeInSeconds"] == 60
    assert invocation["DestinationConfig"]["OnFailure"]["Type"] == "SQS"
    assert functions["worker"]["Timeout"] == 900


def test_ticks_that_lambda_keeps_back_do_not_come_all_at_once(functions: dict[str, dict[str, Any]]) -> None:
    invocation = functions["scheduler"]["EventInvokeConfig"]
    assert (invocation["MaximumRetryAttempts"], invocation["MaximumEventAgeInSeconds"]) == (0, 60)


def test_workers_can_be_bounded_in_an_account_that_can_reserve_nothing(
    nested: dict[str, dict[str, Any]], functions: dict[str, dict[str, Any]], variables: dict[str, dict[str, Any]]
) -> None:
    limit = {"Ref": "WorkerConcurrency"}
    assert functions["worker"]["ReservedConcurrentExecutions"] == {
        "Fn::If": ["ReservesWorkers", limit, {"Ref": "AWS::NoValue"}]
    }
    assert {"Fn::Equals": [{"Ref": "ReserveWorkerConcurrency"}, "true"]} in nested["workers"]["Conditions"][
        "ReservesWorkers"
    ]["Fn::And"]
    for name, given in variables.items():
        if "WORKER_FUNCTION_NAME" in given:
            assert given["WORKER_CONCURRENCY"] == limit, name


def test_only_the_worker_may_invoke_itself_for_ever(functions: dict[str, dict[str, Any]]) -> None:
    assert {name for name, given in functions.items() if "RecursiveLoop" in given} == {"worker"}
    assert functions["worker"]["RecursiveLoop"] == "Allow"


def test_one_parameter_decides_how_streams_are_answered(
    root: dict[str, Any],
    nested: dict[str, dict[str, Any]],
    functions: dict[str, dict[str, Any]],
    integrations: dict[str, dict[str, Any]],
) -> None:
    """Nothing behind a streaming path may answer in the format of the others, nor the other way round."""
    mode = root["Parameters"]["ResponseTransferMode"]
    assert (mode["Default"], set(mode["AllowedValues"])) == ("RESPONSE_STREAM", {"RESPONSE_STREAM", "BUFFERED"})
    assert nested["api"]["Conditions"]["Streams"] == {
        "Fn::Equals": [{"Ref": "ResponseTransferMode"}, "RESPONSE_STREAM"]
    }
    flat = [
        way(each) for each in integrations.values() if "AppFunction" in str(each) for way in (with_app, without_app)
    ]
    for integration in [*(each for each in integrations.values() if "AppFunction" not in str(each)), *flat]:
        if not any(f"{name.title()}Function" in str(integration) for name in STREAMING):
            assert integration.keys() == {"type", "httpMethod", "uri"}
            assert "/2015-03-31/" in integration["uri"]["Fn::Sub"][0]
            continue
        condition, streaming, buffered = integration["uri"]["Fn::If"]
        assert condition == "Streams"
        assert streaming["Fn::Sub"][0].endswith("/2021-11-15/functions/${Function}/response-streaming-invocations")
        assert buffered["Fn::Sub"][0].endswith("/2015-03-31/functions/${Function}/invocations")
        assert integration["responseTransferMode"] == {"Fn::If": ["Streams", "STREAM", "BUFFERED"]}
        assert integration["timeoutInMillis"] == {"Fn::If": ["Streams", 900_000, 29_000]}
    wrapped = {
        name for name, each in functions.items() if "AWS_LAMBDA_EXEC_WRAPPER" in each["Environment"]["Variables"]
    }
    assert wrapped == STREAMING
    for name in STREAMING:
        assert functions[name]["Timeout"] == {"Fn::If": ["Streams", 900, 30]}
        condition, wrapper, without = functions[name]["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"]["Fn::If"]
        assert (condition, without) == ("Streams", {"Ref": "AWS::NoValue"})
        script = ROOT / wrapper.replace("/var/task/langgraph_serverless_functions", "functions")
        assert os.access(script, os.X_OK)


def test_what_api_gateway_answers_by_itself_has_the_applications_form(nested: dict[str, dict[str, Any]]) -> None:
    responses = nested["api"]["Resources"]["Api"]["Properties"]["DefinitionBody"][
        "x-amazon-apigateway-gateway-responses"
    ]
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "REQUEST_TOO_LARGE", "THROTTLED", "INTEGRATION_TIMEOUT"} <= set(responses)
    for response in responses.values():
        template = text(response["responseTemplates"]["application/json"])
        answer = json.loads(template.replace("$context.error.messageString", '"Forbidden"'))
        assert set(answer) == {"detail"}
        assert response["responseParameters"]["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"


def test_bodies_are_limited_to_what_lambda_takes(
    root: dict[str, Any], variables: dict[str, dict[str, Any]], paths: dict[str, str]
) -> None:
    limit = root["Parameters"]["MaxRequestBodyBytes"]
    assert limit["Default"] == limit["MaxValue"] == 6 * 2**20
    for name in set(paths.values()):
        assert variables[name]["MAX_REQUEST_BODY_BYTES"] == {"Ref": "MaxRequestBodyBytes"}
        assert variables[name]["CORS_ALLOW_ORIGINS"] == {"Ref": "AllowedOrigins"}


def test_whoever_invokes_or_counts_workers_knows_how_many_runs_one_takes(variables: dict[str, dict[str, Any]]) -> None:
    for name, given in variables.items():
        if "WORKER_FUNCTION_NAME" in given or name == "system":
            assert given.get("N_JOBS_PER_WORKER") == variables["worker"]["N_JOBS_PER_WORKER"], name
