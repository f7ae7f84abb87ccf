"""The whole stack, deployed: Postgres and Valkey, LocalStack without containers, SAM, migrations.

It takes about a quarter of a minute, once for all tests here. The environments come from ``make setup-localstack``. What is
deployed is the real template with the project of the examples, to which ``project/graphs.py`` adds a few graphs. Tests that
deploy the stack again or delete it come last (``test_update_and_delete.py``).
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from botocore.config import Config
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from localstack_client.session import Session

from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
LOCALSTACK_VENV, SAM_VENV = ROOT / ".venv-localstack", ROOT / ".venv-sam"
REGION, STACK_NAME = "us-east-1", "ci"
#: Folder of a function, in what it is deployed with.
HANDLER = re.compile(r"langgraph_serverless_functions\.(\w+)\.handler\.handler")
#: Graphs of ``project/graphs.py``.
OWN_GRAPHS = ("releases", "team", "fatal")
#: A project with an application has code that every function imports; cold starts are measured without (`make cold-start-deployed`).
WITH_APP = not os.environ.get("PROJECT_WITHOUT_APP")
#: What the stack gets besides the parameters of the environment "ci".
PARAMETERS = {
    "WebhookAllowedHosts": "127.0.0.1",
    "WebhookSigningSecret": "langgraph-serverless/webhook-signing",
    "WebhookVariablesSecret": "langgraph-serverless/webhook-variables",
}


@dataclass
class Aws:
    """One LocalStack."""

    endpoint: str
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        if service not in self._clients:
            session = Session("test", "test", region_name=REGION, localstack_host=self.endpoint.removeprefix("http://"))
            # an invocation is made once; LocalStack's logs fail now and then while functions write some, and reading them is no harm
            attempts = 5 if service == "logs" else 1
            config = Config(read_timeout=150, retries={"total_max_attempts": attempts})
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

    def load_services(self) -> None:
        """LocalStack loads a service when it is first asked for something, which may happen while other work is done."""
        self.client("cloudformation").list_stacks()
        self.client("lambda").list_functions()
        self.client("apigateway").get_rest_apis()
        self.client("iam").list_roles()
        self.client("events").list_rules()
        self.client("sqs").list_queues()
        self.client("logs").describe_log_groups()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@dataclass(frozen=True)
class Stack:
    """The deployed stack."""

    aws: Aws
    url: str
    #: Folder to name.
    functions: dict[str, str]
    outputs: dict[str, str]
    database_uri: str
    redis_uri: str
    deployment: "Deployment"

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
            lambda_.get_waiter("function_updated_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
            )
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
        written = [event["message"] for page in pages for event in page["events"]]
        lines = [line for message in written if text in message for line in json_lines(message)]
        return [line for line in lines if text in json.dumps(line, separators=(",", ":"), ensure_ascii=False)]


def json_lines(message: str) -> Iterator[dict[str, Any]]:
    """The documents of a log event; Lambda's own client ends none with a line break."""
    decoder, place = json.JSONDecoder(), 0
    while (place := message.find("{", place)) >= 0:
        document, place = decoder.raw_decode(message, place)
        yield document


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What ends the stack comes last."""
    items.sort(key=lambda item: item.path == HERE / "test_update_and_delete.py")


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
    everything = [process, *process.children(recursive=True)]
    for each in everything:  # nothing of it is to be kept, and an orderly end would take seconds
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(everything, timeout=20)


@dataclass(frozen=True)
class Deployment:
    """The folder that is deployed, and how: may be done again, with other code and other parameters."""

    folder: Path
    project: Path

    @classmethod
    def make(cls, folder: Path) -> "Deployment":
        """The template as it is, and a project of the examples' graphs and those of ``project/graphs.py``."""
        for name in ("template.yaml", "samconfig.toml"):
            shutil.copy(ROOT / name, folder)
        for template in (ROOT / "infra").glob("*.yaml"):
            (folder / "infra").mkdir(exist_ok=True)
            shutil.copy(template, folder / "infra")
        project = folder / "project"
        shutil.copytree(ROOT / "examples", project, ignore=shutil.ignore_patterns("__pycache__"))
        for module in ("graphs.py", "web.py"):
            shutil.copy(HERE / "project" / module, project)
        config = json.loads((project / "langgraph.json").read_text())
        config["graphs"] |= {name: f"./graphs.py:{name}" for name in OWN_GRAPHS}
        config["webhooks"] = {
            "headers": {"X-Token": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}"},
            "url": {"require_https": False},
        }
        if WITH_APP:
            config["http"] = {"app": "./web.py:app"}
        (project / "langgraph.json").write_text(json.dumps(config))
        return cls(folder, project)

    def build(self) -> None:
        command = Path(sys.executable).with_name("langgraph-serverless")
        config, output = self.project / "langgraph.json", self.folder / ".build"
        run([command, "build", "--config", config, "--output", output, "--without-dependencies"])

    def deploy(self, aws: Aws, **parameters: str) -> str:
        """With the parameters of the environment "ci", ``PARAMETERS`` and these, migration included; what the command says."""
        command = [Path(sys.executable).with_name("langgraph-serverless"), "deploy", "--skip-build"]
        command += ["--output", self.folder / ".build", "--config-env", "ci"]
        command += ["--template", self.folder / "template.yaml", "--samconfig", self.folder / "samconfig.toml"]
        command += [f"--parameter={name}={value}" for name, value in {**PARAMETERS, **parameters}.items()]
        environ = aws.environment()
        path = f"{SAM_VENV / 'bin'}{os.pathsep}{environ['PATH']}"
        return run(command, cwd=self.folder, env={**environ, "PATH": path})


def functions_of(aws: Aws, stack_name: str) -> dict[str, str]:
    """Folder to name, of the functions that there are."""
    pages = aws.client("lambda").get_paginator("list_functions").paginate()
    functions = [function for page in pages for function in page["Functions"]]
    found = {match[1]: each["FunctionName"] for each in functions if (match := HANDLER.match(each.get("Handler", "")))}
    return {folder: name for folder, name in found.items() if name.startswith(f"{stack_name}-")}


@pytest.fixture(scope="session")
def secrets(database_uri: str, redis_uri: str) -> dict[str, str]:
    """What the Secrets Manager has under "langgraph-serverless/", and nobody else."""
    return {
        "database-uri": database_uri,
        "redis-uri": redis_uri,
        "webhook-signing": "whsec_" + base64.b64encode(b"a secret of twenty-four bytes").decode(),
        "webhook-variables": json.dumps({"LG_WEBHOOK_TOKEN": "t0ken-of-the-receiver"}),
    }


@pytest.fixture(scope="session")
def stack(
    aws: Aws,
    database_uri: str,
    redis_uri: str,
    secrets: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Stack:
    deployment = Deployment.make(tmp_path_factory.mktemp("deploy"))
    with ThreadPoolExecutor(1) as beside:
        built = beside.submit(deployment.build)
        aws.client("s3").create_bucket(Bucket="deployments")
        for name, value in secrets.items():
            aws.client("secretsmanager").create_secret(Name=f"langgraph-serverless/{name}", SecretString=value)
        aws.load_services()
        built.result()
    said = deployment.deploy(aws)
    migrated = re.search(r"^ +\d+ migrations applied; graphs: (.*)$", said, re.MULTILINE)
    assert migrated, said
    assert set(migrated[1].split(", ")) == {"minimal", "chat_agent", "human_in_the_loop", "long_run", *OWN_GRAPHS}

    described = aws.client("cloudformation").describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Outputs"]}
    address = re.fullmatch(r"https://(\w+)\.execute-api\.[^/]+/(\w+)", outputs["Url"])
    assert address, outputs
    deployed = Stack(
        aws=aws,
        url=f"{aws.endpoint}/_aws/execute-api/{address[1]}/{address[2]}",
        functions=functions_of(aws, STACK_NAME),
        outputs=outputs,
        database_uri=database_uri,
        redis_uri=redis_uri,
        deployment=deployment,
    )
    everything = {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}
    assert set(deployed.functions) == everything - (set() if WITH_APP else {"app"})
    return deployed


@pytest.fixture(scope="session")
def due_cron(stack: Stack) -> dict[str, str]:
    """A cron whose time has come: the next tick of the rule is to find it, while other tests go on.

    Its thread, since a cron of a thread shows what it has made. The database is told, as crons are for whole minutes and the first
    tick would come too early; nothing else of it is done by hand.
    """
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        thread_id = http.post("/threads", json={}).json()["thread_id"]
        body = {"assistant_id": "minimal", "schedule": "0 0 1 1 *", "input": {"text": "tick"}}
        cron_id = http.post(f"/threads/{thread_id}/runs/crons", json=body).json()["cron_id"]
    with psycopg.connect(stack.database_uri, autocommit=True) as connection:
        connection.execute("UPDATE lgs.cron SET next_run_date = now() WHERE cron_id = %s", (cron_id,))
    return {"cron_id": cron_id, "thread_id": thread_id}


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url, api_key=None) as sdk:
        yield sdk
