"""``langgraph-serverless deploy``: what it asks of the SAM CLI and of AWS, in which order, and what it says when they refuse.

The SAM CLI is a script that notes its arguments; the account is moto's. The real ones are in tests/e2e.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from click.testing import CliRunner, Result
from moto import mock_aws
from moto.awslambda_simple.models import lambda_simple_backends
from moto.cloudformation.models import Event, cloudformation_backends
from moto.core import DEFAULT_ACCOUNT_ID
from templates import ROOT, load

from langgraph_serverless import __version__
from langgraph_serverless.build.bundle import BuildReport
from langgraph_serverless.build.sources import deployment_folder
from langgraph_serverless.build.target import BuildTarget
from langgraph_serverless.cli.deploy import LONGEST_STACK
from langgraph_serverless.cli.main import main
from langgraph_serverless.deploy import sam as sam_cli
from langgraph_serverless.deploy.account import Account
from langgraph_serverless.deploy.parameters import (
    choose_parameters,
    read_declared,
    read_environment,
    sam_arguments,
    split_parameters,
)
from langgraph_serverless.deploy.stack_folder import make_stack_folder, with_image
from langgraph_serverless.errors import DeploymentError

REGION, STACK = "us-east-1", "langgraph-serverless"
BUILD = {
    "version": __version__,
    "python": "3.13",
    "architecture": "arm64",
    "bundles": {"api": {"sha256": "a"}, "worker": {"sha256": "b"}},
}
TEMPLATE = {
    "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
    "Outputs": {"Url": {"Value": "https://api.example.com/v1"}, "MigrateFunctionName": {"Value": "migrate"}},
}
SAM = """#!/bin/sh
printf '%s\\n' "$@" > "$SAM_NOTES"
pwd >> "$SAM_NOTES"
env > "$SAM_NOTES.env"
echo "CREATE_COMPLETE  AWS::Lambda::Function  WorkerFunction"
echo "$SAM_SAYS"
exit "${SAM_CODE:-0}"
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """What a build leaves."""
    folder = tmp_path / ".build"
    for name in ("api", "worker"):
        (folder / name).mkdir(parents=True)
    (folder / "build.json").write_text(json.dumps(BUILD))
    return folder


@pytest.fixture
def sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SAM CLI that notes what is asked of it here."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sam").write_text(SAM)
    (tools / "sam").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("SAM_NOTES", str(tmp_path / "asked"))
    return tmp_path / "asked"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account in which the SAM CLI has made the stack already, and a migrate function that answers."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "DATABASE_URI", "REDIS_URI"))]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws(config={"lambda": {"use_docker": False}}):
        boto3.client("cloudformation").create_stack(StackName=STACK, TemplateBody=json.dumps(TEMPLATE))
        answer(applied=["0001_pre_core"], graphs=["agent"])
        yield boto3.client("secretsmanager")


@pytest.fixture(scope="module", autouse=True)
def aws_described_once() -> Iterator[None]:
    """What AWS can be asked is read from files of megabytes, once for all sessions here and not for each."""
    with pytest.MonkeyPatch.context() as patch:
        loader = create_loader()
        patch.setattr("botocore.session.create_loader", lambda *_: loader)
        yield


def answer(**report: Any) -> None:
    """What the migrate function returns next."""
    lambda_simple_backends[DEFAULT_ACCOUNT_ID][REGION].lambda_simple_results_queue.append(json.dumps(report))


def secrets(account: Any) -> None:
    for name in ("database-uri", "redis-uri"):
        account.create_secret(Name=f"langgraph-serverless/{name}", SecretString="x")


def deploy(output: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["deploy", "--skip-build", "--output", str(output), *options])


def test_from_bundles_to_an_address(output: Path, sam: Path, account: Any) -> None:
    secrets(account)
    done = deploy(output, "--parameter", "LogLevel=DEBUG", "--region", REGION)
    assert done.exit_code == 0, done.output
    steps = re.findall(r"^\[(\d/\d)\] (.+)$", done.stdout, re.MULTILINE)
    assert steps == [
        ("1/3", "Looking at the account"),
        ("2/3", f"Deploying the stack {STACK}"),
        ("3/3", "Migrating the database"),
    ]
    assert len(re.findall(r"^      done in [\d.]+ s$", done.stdout, re.MULTILINE)) == 3
    assert "1 migrations applied; graphs: agent" in done.stdout
    assert "curl -s -X POST https://api.example.com/v1/assistants/search" in done.stdout
    asked = sam.read_text().splitlines()
    template = output / "stack" / "template.yaml"
    assert asked[:3] == ["deploy", "--template-file", str(template)]
    assert asked[-1] == str(output)  # where it runs
    assert asked[asked.index("--parameter-overrides") + 1 : -1] == [
        "Architecture=arm64", "LogLevel=DEBUG", "ProjectApp=false", "PythonVersion=3.13",
    ]  # fmt: skip
    assert asked[asked.index("--region") + 1] == REGION
    assert asked[asked.index("--stack-name") + 1] == STACK
    assert "--no-confirm-changeset" in asked
    assert "CAPABILITY_AUTO_EXPAND" in asked
    assert "WorkerFunction" not in done.stdout  # that is for the log
    assert "WorkerFunction" in (output / "sam.log").read_text()


def test_secrets_are_made_of_the_environment_and_shown_to_nobody(
    output: Path, sam: Path, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = deploy(output)
    assert missing.exit_code == 1
    assert "There is no secret langgraph-serverless/database-uri" in missing.stderr
    assert not sam.exists()

    wrong = deploy(output, "--database-uri", "--redis-uri")
    assert "--database-uri needs an address (postgresql://... or postgres://...) in DATABASE_URI" in wrong.stderr

    monkeypatch.setenv("DATABASE_URI", "postgresql://app:hush@db/app")
    monkeypatch.setenv("REDIS_URI", "rediss://:quiet@cache")
    done = deploy(output, "--database-uri", "--redis-uri")
    assert done.exit_code == 0, done.output
    made = account.get_secret_value(SecretId="langgraph-serverless/database-uri")
    assert made["SecretString"] == "postgresql://app:hush@db/app"
    everything = done.output + "".join(path.read_text() for path in output.rglob("*") if path.is_file())
    asked = sam.read_text() + sam.with_suffix(".env").read_text()
    assert not {"hush", "quiet"} & set(re.findall(r"\w+", everything + asked))

    monkeypatch.setenv("DATABASE_URI", "postgresql://another")
    answer(applied=[], graphs=["agent"])
    again = deploy(output, "--database-uri")
    assert "the secret langgraph-serverless/database-uri is there, and is left as it is" in again.stdout
    assert account.get_secret_value(SecretId="langgraph-serverless/database-uri")["SecretString"].endswith("@db/app")


def test_what_the_stack_makes_itself_needs_no_secret(output: Path, sam: Path, account: Any) -> None:
    done = deploy(output, "-p", "CreateNetwork=true", "-p", "Database=aurora", "-p", "Cache=valkey")
    assert done.exit_code == 0, done.output
    assert (
        deploy(output, "-p", "DatabaseUri=postgresql://x", "-p", "RedisUri=redis://x", "--skip-migrate").exit_code == 0
    )


def test_how_far_it_is_is_said_while_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a database is made, for ten minutes."""
    monkeypatch.setattr(sam_cli, "REPORT_EVERY_S", 0.02)
    pipe, said = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def say(line: str) -> None:
        if "1 resources are ready" in line and not said:
            said.append(line)
            pipe.write_text("go on")

    words = ["sh", "-c", f"echo CREATE_COMPLETE; timeout 60 cat {pipe}"]
    outcome = sam_cli.run_quietly(words, tmp_path, tmp_path / "log", say)
    assert (outcome.code, outcome.lines) == (0, ("CREATE_COMPLETE", "go on"))


def test_what_nobody_names_stays_and_counts(output: Path, sam: Path, account: Any) -> None:
    """CloudFormation keeps the values of a stack; a second deployment is not to ask for what they make superfluous."""
    kept = {"Database": "aurora", "Cache": "valkey", "SnapStart": "true", "Release": "first"}
    template = {**TEMPLATE, "Parameters": {name: {"Type": "String"} for name in kept}}
    boto3.client("cloudformation").update_stack(
        StackName=STACK,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in kept.items()],
    )
    done = deploy(output)
    assert done.exit_code == 0, done.output  # no secret is needed
    asked = sam.read_text()
    assert "Database=" not in asked
    (release,) = re.findall(r"^Release=(.+)$", asked, re.MULTILINE)  # else the alias would stay where it is
    assert release != "first"
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/agent:1"
    assert "SnapStart and --image-uri exclude each other" in deploy(output, "--image-uri", image).stderr
    refused = deploy(output, "-p", "Database=bring")
    assert "There is no secret langgraph-serverless/database-uri" in refused.stderr


def test_a_stack_that_cannot_be_updated_is_left_alone(output: Path, sam: Path, account: Any) -> None:
    found = cloudformation_backends[DEFAULT_ACCOUNT_ID][REGION].get_stack(STACK)
    for status, words in {
        "ROLLBACK_COMPLETE": f"Run 'aws cloudformation delete-stack --stack-name {STACK}', wait until it is gone",
        "UPDATE_ROLLBACK_FAILED": f"Run 'aws cloudformation continue-update-rollback --stack-name {STACK}'",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "is being changed already (UPDATE_COMPLETE_CLEANUP_IN_PROGRESS)",
    }.items():
        found.status = status
        assert words in deploy(output, "--database-uri", "--redis-uri").stderr
    assert not sam.exists()
    found.status = "UPDATE_ROLLBACK_COMPLETE"  # what there was before is there
    assert deploy(output, "-p", "DatabaseUri=postgresql://x", "-p", "RedisUri=redis://x").exit_code == 0


@pytest.mark.parametrize(
    ("limit", "unreserved", "has", "most"),
    [(1000, 1000, None, 900), (1000, 980, 20, 900), (1000, 110, 0, 10), (1000, 90, None, 0), (10, 10, None, 0)],
)
def test_workers_get_what_lambda_can_reserve(
    output: Path,
    sam: Path,
    account: Any,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    unreserved: int,
    has: int | None,
    most: int,
) -> None:
    def call(client: Any, operation: str, arguments: Any) -> dict[str, Any]:
        if operation == "GetAccountSettings":
            return {"AccountLimit": {"ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": unreserved}}
        if operation == "GetFunctionConcurrency":
            assert arguments == {"FunctionName": f"{STACK}-worker"}
            if has is None:
                raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, operation)
            return {"ReservedConcurrentExecutions": has} if has else {}
        found: dict[str, Any] = asked(client, operation, arguments)
        return found

    asked = BaseClient._make_api_call
    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    secrets(account)
    refused = deploy(output, "-p", f"WorkerConcurrency={most + 1}")
    assert f"Lambda can reserve {most} of this account's concurrency here" in refused.stderr
    assert not sam.exists()
    for given in ([f"WorkerConcurrency={most}"], [f"WorkerConcurrency={most + 1}", "ReserveWorkerConcurrency=false"]):
        answer(applied=[], graphs=[])
        done = deploy(output, *(word for each in given for word in ("-p", each)))
        assert done.exit_code == 0, done.output


def test_access_logs_need_a_role_that_no_stack_makes(
    output: Path, sam: Path, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"throttleSettings": {"burstLimit": 5000}}

    def call(client: Any, operation: str, arguments: Any) -> Any:
        return settings if operation == "GetAccount" else asked(client, operation, arguments)

    asked = BaseClient._make_api_call
    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    secrets(account)
    assert "AccessLogs=true needs a role" in deploy(output, "-p", "AccessLogs=true").stderr
    assert not sam.exists()
    settings["cloudwatchRoleArn"] = "arn:aws:iam::123456789012:role/logs"
    assert deploy(output, "-p", "AccessLogs=true").exit_code == 0


def test_a_stack_has_a_name_that_functions_can_have(output: Path, sam: Path, account: Any) -> None:
    refused = deploy(output, "--stack-name", "x" * 54)
    assert "may have 53 characters" in refused.stderr
    assert not sam.exists()
    assert load(ROOT / "infra" / "api.yaml")["Parameters"]["Prefix"]["MaxLength"] == LONGEST_STACK


def test_an_archive_never_becomes_an_image(
    output: Path, sam: Path, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets(account)
    monkeypatch.setattr(Account, "package_type", lambda self, name: {f"{STACK}-worker": "Zip"}[name])
    refused = deploy(output, "--image-uri", "123456789012.dkr.ecr.us-east-1.amazonaws.com/agent:1")
    assert f"leave out --image-uri, or delete the stack {STACK} first" in refused.stderr
    assert not sam.exists()


def test_nothing_happens_without_a_project(
    output: Path, sam: Path, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URI", "postgresql://x")
    options = ["--config", str(output / "langgraph.json"), "--output", str(output), "--database-uri"]
    refused = CliRunner().invoke(main, ["deploy", *options])
    assert refused.exit_code == 1
    assert "langgraph.json does not exist" in refused.stderr
    assert account.list_secrets()["SecretList"] == []


def test_the_reason_of_a_failure_is_what_is_said(
    output: Path, sam: Path, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets(account)
    monkeypatch.setenv("SAM_CODE", "1")
    monkeypatch.setenv("SAM_SAYS", "Error: Failed to create changeset: no such bucket")
    unnamed = deploy(output)
    assert unnamed.exit_code == 1
    assert "sam deploy failed (exit code 1)" in unnamed.stderr
    assert "no such bucket" in unnamed.stderr

    nested = boto3.client("cloudformation").create_stack(StackName="nested", TemplateBody=json.dumps(TEMPLATE))[
        "StackId"
    ]
    event(STACK, "Old", "AWS::SQS::Queue", "of the deployment before")
    run = sam_cli.run_quietly

    def fail(*arguments: Any) -> sam_cli.Outcome:
        event("nested", "nested", "AWS::CloudFormation::Stack", "", nested, "CREATE_IN_PROGRESS")
        event("nested", "Queue", "AWS::SQS::Queue", "Access denied for sqs:CreateQueue")
        event(STACK, "Worker", "AWS::Lambda::Function", "Resource creation cancelled")
        event(STACK, "Workers", "AWS::CloudFormation::Stack", "Embedded stack was not successfully created", nested)
        return run(*arguments)

    monkeypatch.setattr(sam_cli, "run_quietly", fail)
    named = deploy(output)
    assert named.exit_code == 1
    assert "be deployed:\nQueue (AWS::SQS::Queue) CREATE_FAILED: Access denied for sqs:CreateQueue\nAll" in named.stderr
    assert f"All that the SAM CLI said is in {output / 'sam.log'}" in named.stderr
    assert "migrations" not in named.stdout


def event(
    stack: str, resource: str, kind: str, reason: str, physical: str = "physical", status: str = "CREATE_FAILED"
) -> None:
    """An event of a stack, as CloudFormation writes it while it is being deployed."""
    found = cloudformation_backends[DEFAULT_ACCOUNT_ID][REGION].get_stack(stack)
    found.events.append(Event(found.stack_id, found.name, resource, physical, kind, status, reason, None))


def test_a_migration_that_fails_is_said_with_its_reason(output: Path, sam: Path, account: Any) -> None:
    secrets(account)
    queue = lambda_simple_backends[DEFAULT_ACCOUNT_ID][REGION].lambda_simple_results_queue
    queue[:] = ["null"]
    assert "no migrations applied" in deploy(output).stdout
    boto3.client("cloudformation").update_stack(
        StackName=STACK, TemplateBody=json.dumps({**TEMPLATE, "Outputs": {"Url": TEMPLATE["Outputs"]["Url"]}})
    )
    assert "has no output MigrateFunctionName" in deploy(output).stderr


def test_without_the_tools_it_says_how_to_get_them(output: Path, account: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "pipx install aws-sam-cli" in deploy(output).stderr
    assert "run 'langgraph-serverless build' first" in deploy(output / "elsewhere").stderr
    (output / "build.json").write_text(json.dumps({**BUILD, "version": "0.0.1"}))
    assert f"was built by version 0.0.1, and this is {__version__}" in deploy(output).stderr


def test_bundles_without_dependencies_are_for_localstack_only(output: Path, sam: Path, account: Any) -> None:
    (output / "build.json").write_text(json.dumps({**BUILD, "dependencies": False}))
    assert "was built without dependencies" in deploy(output).stderr
    environ = {"AWS_ENDPOINT_URL": "http://localhost:4566"}
    arguments = ["deploy", "--skip-build", "--output", str(output), "--dry-run"]
    assert CliRunner().invoke(main, arguments, env=environ).exit_code == 0


def test_boto3_is_an_extra(output: Path, sam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    assert "pip install 'langgraph-serverless[deploy]'" in deploy(output).stderr


def test_a_dry_run_does_nothing_and_hides_secrets(output: Path, sam: Path) -> None:
    done = deploy(output, "--dry-run", "--database-uri", "--env", "prod", "-p", "RedisUri=redis://:hush@cache")
    assert done.exit_code == 0, done.output
    assert not sam.exists()
    assert not (output / "stack").exists()
    assert "# makes the secret langgraph-serverless/database-uri from DATABASE_URI, if there is none" in done.stdout
    assert "--config-env prod" in done.stdout
    assert "--stack-name langgraph-serverless-prod" in done.stdout
    assert "WorkerConcurrency=20" in done.stdout  # of samconfig.toml, which the command line would replace
    assert "RedisUri=***" in done.stdout
    assert "hush" not in done.stdout


def test_an_environment_that_asks_needs_somebody_to_answer(output: Path, sam: Path, account: Any) -> None:
    secrets(account)
    assert "there is nobody to ask: give --yes" in deploy(output, "--env", "prod").stderr
    assert "has no environment 'production'; it has default" in deploy(output, "--env", "production").stderr


def test_parameters_of_the_file_the_build_and_the_command_line(tmp_path: Path) -> None:
    declared = read_declared(deployment_folder() / "template.yaml")
    assert {"DatabaseUri", "RedisUri"} <= declared.hidden
    assert declared.defaults["DatabaseUriSecret"] == "langgraph-serverless/database-uri"
    samconfig = tmp_path / "samconfig.toml"
    samconfig.write_text(
        "[default.global.parameters]\nstack_name = 'one'\n"
        "[default.deploy.parameters]\nparameter_overrides = 'LogLevel=DEBUG Webhooks=\"{} x\"'\n"
        "[other.deploy.parameters]\nparameter_overrides = ['LogLevel=ERROR']\nconfirm_changeset = true\n"
    )
    one, other = read_environment(samconfig, "default"), read_environment(samconfig, "other")
    assert (one.stack_name, one.confirms, one.parameters) == ("one", False, {"LogLevel": "DEBUG", "Webhooks": "{} x"})
    assert (other.stack_name, other.confirms, other.parameters) == (None, True, {"LogLevel": "ERROR"})

    chosen = choose_parameters(declared, one, BUILD, {"LogLevel": "INFO"})
    built = {"PythonVersion": "3.13", "Architecture": "arm64", "ProjectApp": "false"}
    assert chosen == {"LogLevel": "INFO", "Webhooks": "{} x", **built}
    assert choose_parameters(declared, one, {**BUILD, "app": True}, {})["ProjectApp"] == "true"
    with pytest.raises(DeploymentError, match="built for ProjectApp=true, not false"):
        choose_parameters(declared, one, {**BUILD, "app": True}, {"ProjectApp": "false"})
    with pytest.raises(DeploymentError, match="has no parameter 'LogLevle'"):
        choose_parameters(declared, one, BUILD, {"LogLevle": "INFO"})
    with pytest.raises(DeploymentError, match="built for Architecture=arm64, not x86_64"):
        choose_parameters(declared, one, BUILD, {"Architecture": "x86_64"})
    with pytest.raises(DeploymentError, match="needs the form NAME=VALUE"):
        split_parameters(["LogLevel"])


def test_versions_of_functions_have_a_name_that_follows_what_is_deployed() -> None:
    declared = read_declared(deployment_folder() / "template.yaml")
    environment = read_environment(deployment_folder() / "samconfig.toml", "default")
    first = choose_parameters(declared, environment, BUILD, {"SnapStart": "true"})["Release"]
    changed = {**BUILD, "bundles": {**BUILD["bundles"], "api": {"sha256": "c"}}}  # type: ignore[dict-item]
    assert choose_parameters(declared, environment, BUILD, {"SnapStart": "true"})["Release"] == first
    assert choose_parameters(declared, environment, changed, {"SnapStart": "true"})["Release"] != first
    assert (
        choose_parameters(declared, environment, BUILD, {"SnapStart": "true", "Release": "mine"})["Release"] == "mine"
    )
    assert "Release" not in choose_parameters(declared, environment, BUILD, {})


@pytest.mark.parametrize("value", ["", "plain", "a b", '{"a": "b c"}', "back\\slash", "a,b"])
def test_values_reach_the_template_as_they_are(value: str) -> None:
    ((_, word),) = [argument.split("=", 1) for argument in sam_arguments({"Name": value})]
    # what the SAM CLI takes for a value (samcli/cli/types.py), and how it takes the quotes off
    assert re.fullmatch(r'"(?:\\.|[^"\\]+)*"|(?:\\.|[^ "\\]+)+', word)
    assert re.sub(r"\\(.)", r"\1", word.removeprefix('"').removesuffix('"') if word[:1] == '"' else word) == value


def test_templates_lie_beside_the_bundles(output: Path) -> None:
    template = make_stack_folder(output)
    for path in [template, *(template.parent / "infra").iterdir()]:
        for code in re.findall(r"CodeUri: *(\S+)", path.read_text()):
            assert (path.parent / code).resolve() in {output / "api", output / "worker"}, (path, code)
        for nested in re.findall(r"TemplateURL: *(\S+)", path.read_text()):
            assert (path.parent / nested).is_file()
    assert len(list((template.parent / "infra").iterdir())) >= 5


def test_an_image_takes_the_place_of_the_workers_archive(output: Path) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/agent:1"
    template = make_stack_folder(output, image_uri=image)
    images, archives = set(), set()
    for path in (template.parent / "infra").iterdir():
        globals_ = re.search(r"^Globals:\n(?:(?:  .*)?\n)+", path.read_text(), re.MULTILINE)
        assert globals_ is None or not re.search(r"Runtime|CodeUri", globals_.group())
        for name, body in re.findall(
            r"^  (\w+):\n    Type: AWS::Serverless::Function\n((?:    .*\n|\n)+)", path.read_text(), re.MULTILINE
        ):
            if "PackageType: Image" in body:
                assert f"ImageUri: {image}" in body
                assert re.search(
                    r"ImageConfig: {Command: \[langgraph_serverless_functions\.(\w+)\.handler\.handler\]}", body
                )
                assert not re.search(r"Runtime:|CodeUri:|Handler:", body), name
                images.add(name)
            else:
                assert (
                    len(re.findall(r"^      (?:Runtime: \S|CodeUri: \.\./\.\./api$|Handler: \S)", body, re.MULTILINE))
                    == 3
                )
                archives.add(name)
    assert images == {"WorkerFunction", "StateFunction", "MigrateFunction"}
    assert {"SchedulerFunction", "StreamFunction", "SystemFunction"} <= archives
    assert with_image("Resources: {}\n", image) == "Resources: {}\n"


def test_what_is_built_is_what_is_deployed(
    output: Path, sam: Path, account: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets(account)
    (output / "build.json").unlink()
    (tmp_path / "graph.py").touch()
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": "./graph.py:graph"}}))

    def build(
        config: Path, folder: Path, *, target: BuildTarget, for_image: bool, for_traces: bool, say: Any
    ) -> BuildReport:
        assert (config, folder, for_image) == (tmp_path / "langgraph.json", output, True)
        assert for_traces  # as the stack is to send them
        return BuildReport(
            output=folder,
            target=target,
            graph_ids=("agent",),
            manifest_hash="m",
            has_env=False,
            compiled=True,
            with_dependencies=True,
            has_app=True,
            sizes={},
            warnings=(),
        )

    monkeypatch.setattr("langgraph_serverless.cli.deploy.build_bundles", build)
    image = "registry:5000/agents/mine:1"
    options = ["--config", str(tmp_path / "langgraph.json"), "--output", str(output), "--image-uri", image]
    done = CliRunner().invoke(
        main,
        [
            "deploy",
            *options,
            "--python-version",
            "3.12",
            "--architecture",
            "x86_64",
            "--parameter",
            "OtlpEndpoint=http://c:4318",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "[2/4] Building the bundles" in done.stdout
    asked = sam.read_text().splitlines()
    assert {"Architecture=x86_64", "PythonVersion=3.12", "ProjectApp=true"} <= set(asked)
    assert asked[asked.index("--image-repository") + 1] == "registry:5000/agents/mine"
    assert f"ImageUri: {image}" in (output / "stack" / "infra" / "workers.yaml").read_text()
    refused = deploy(output, "--image-uri", image, "-p", "SnapStart=true")
    assert refused.exit_code == 1
