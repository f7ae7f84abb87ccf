"""The whole stack, deployed: Postgres and Valkey, LocalStack without containers, SAM, migrations.

It takes about half a minute, once for all tests here. The environments come from ``make setup-localstack``.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.config import Config
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from localstack_client.session import Session

from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey

ROOT = Path(__file__).parents[2]
LOCALSTACK_VENV, SAM_VENV = ROOT / ".venv-localstack", ROOT / ".venv-sam"
REGION, STACK_NAME = "us-east-1", "ci"


@dataclass
class Aws:
    """One LocalStack."""

    endpoint: str
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self._clients:
            session = Session("test", "test", region_name=REGION, localstack_host=self.endpoint.removeprefix("http://"))
            config = Config(read_timeout=150, retries={"total_max_attempts": 1})
            self._clients[service] = session.client(service, config=config)
        return self._clients[service]

    def environment(self) -> dict[str, str]:
        """What the SAM CLI needs to work here."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "SAM_CLI_TELEMETRY": "0",
            "SAM_CLI_POLL_DELAY": "1",
        }

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@dataclass(frozen=True)
class Stack:
    """The deployed stack."""

    aws: Aws
    url: str
    functions: dict[str, str]
    database_uri: str
    redis_uri: str

    def invoke(self, function: str, event: Any = None) -> Any:
        """Calls a function, named as its folder, past the API, and waits for what it returns."""
        payload = json.dumps(event or {}).encode()
        answer = self.aws.client("lambda").invoke(FunctionName=self.functions[function], Payload=payload)
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    @contextmanager
    def configured(self, function: str, *, timeout: int | None = None, **variables: str) -> Iterator[None]:
        """Changes a function's time limit or variables, and back."""
        lambda_, name = self.aws.client("lambda"), self.functions[function]
        before = lambda_.get_function_configuration(FunctionName=name)
        old = {"Timeout": before["Timeout"], "Environment": {"Variables": before["Environment"]["Variables"]}}
        new = {
            "Timeout": timeout or old["Timeout"],
            "Environment": {"Variables": {**old["Environment"]["Variables"], **variables}},
        }
        for configuration in (new, old):
            lambda_.update_function_configuration(FunctionName=name, **configuration)
            lambda_.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
            if configuration is new:
                try:
                    yield
                except BaseException:
                    lambda_.update_function_configuration(FunctionName=name, **old)
                    raise

    def log_lines(self, function: str, text: str) -> list[dict[str, Any]]:
        """The structured lines with this text that a function has logged; they appear when the invocation ends."""
        logs, group = self.aws.client("logs"), f"/aws/lambda/{self.functions[function]}"
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            return []
        pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
        lines = [event["message"] for page in pages for event in page["events"]]
        return [json.loads(line) for line in lines if text in line and line.startswith("{")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows what the functions had to say."""
    report = yield
    deployed = getattr(item, "funcargs", {}).get("stack")
    if report.failed and deployed is not None:
        for function in deployed.functions:
            errors = deployed.log_lines(function, '"level":"ERROR"')
            if errors:
                report.sections.append((f"errors of {function}", json.dumps(errors[-3:], indent=1)))
    return report


def run(command: list[str | Path], **options: Any) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def database_uri(databases: Any) -> Iterator[str]:
    """A database that only the migrate function has seen."""
    uri = databases.create(migrated=False)
    yield uri
    databases.drop(uri)


@pytest.fixture(scope="session")
def redis_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own: these tests empty it."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    if not (LOCALSTACK_VENV / ".executor").exists() or not (SAM_VENV / ".installed").exists():
        pytest.fail("LocalStack and the SAM CLI are missing: run `make setup-localstack`")
    state, port = tmp_path_factory.mktemp("localstack"), free_port()
    start = ROOT / "infra" / "localstack" / "start_localstack.sh"
    pid = int(run([start, LOCALSTACK_VENV, sys.prefix, str(port), state]))
    localstack = Aws(f"http://127.0.0.1:{port}")
    yield localstack
    localstack.close()
    process = psutil.Process(pid)
    functions = process.children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs([process, *functions], timeout=20)
    for survivor in alive:
        survivor.kill()


@pytest.fixture(scope="session")
def stack(aws: Aws, database_uri: str, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    work = tmp_path_factory.mktemp("deploy")
    for name in ("template.yaml", "samconfig.toml"):
        shutil.copy(ROOT / name, work)
    shutil.copytree(ROOT / "infra", work / "infra", ignore=shutil.ignore_patterns("localstack"))
    command = Path(sys.executable).with_name("langgraph-serverless")
    config = ROOT / "examples" / "langgraph.json"
    run([command, "build", "--config", config, "--output", work / ".build", "--without-dependencies"])

    aws.client("s3").create_bucket(Bucket="deployments")
    for name, value in (("database-uri", database_uri), ("redis-uri", redis_uri)):
        aws.client("secretsmanager").create_secret(Name=f"langgraph-serverless/{name}", SecretString=value)
    run([SAM_VENV / "bin" / "sam", "deploy", "--config-env", "ci"], cwd=work, env=aws.environment())

    (described,) = aws.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    folders = [path.parent.name for path in ROOT.glob("functions/*/handler.py")]
    deployed = Stack(
        aws=aws,
        url=f"{aws.endpoint}/_aws/execute-api/{outputs['ApiId']}/v1",
        functions={folder: f"{STACK_NAME}-{folder}" for folder in folders},
        database_uri=database_uri,
        redis_uri=redis_uri,
    )
    outcome = deployed.invoke("migrate")
    assert outcome["applied"]
    assert set(outcome["graphs"]) == {"minimal", "chat_agent", "human_in_the_loop", "long_run"}
    return deployed


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url, api_key=None) as sdk:
        yield sdk
