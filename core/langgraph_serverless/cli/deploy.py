"""``langgraph-serverless deploy``: from a project to an address, in one command.

The order: what can be refused is asked first (project, tools, parameters, the stack as it is, secrets), then the bundles are built,
the stack is deployed, and the database is migrated by the new stack's own function. Between the last two the new code meets the old
schema, which every release is made for (docs/adr/0022-build-and-deploy.md). Relies on the SAM CLI and on boto3. Each step says how
long it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from langgraph_serverless import __version__
from langgraph_serverless.build.bundle import BUNDLES, RECORD_NAME, build_bundles
from langgraph_serverless.build.sources import deployment_folder
from langgraph_serverless.cli.build import chosen_target, show
from langgraph_serverless.deploy import sam
from langgraph_serverless.deploy.account import Account, DeployedStack
from langgraph_serverless.deploy.parameters import (
    choose_parameters,
    read_declared,
    read_environment,
    sam_arguments,
    split_parameters,
    stack_parameters,
)
from langgraph_serverless.deploy.stack_folder import make_stack_folder
from langgraph_serverless.errors import DeploymentError
from langgraph_serverless.execution.project import read_project

DEFAULT_STACK = "langgraph-serverless"
MOST_REASONS = 3
#: Lambda takes 64 characters for ``<stack>-assistants``; the templates' Prefix has the same limit.
LONGEST_STACK = 53


@dataclass(frozen=True, kw_only=True)
class _Address:
    """One of the two addresses that functions read from a secret."""

    variable: str
    #: the parameters with the address itself, with the secret's name, and with what there is instead of one's own
    plain: str
    secret: str
    made: str
    option: str
    schemes: tuple[str, ...]


ADDRESSES = (
    _Address(
        variable="DATABASE_URI",
        plain="DatabaseUri",
        secret="DatabaseUriSecret",  # noqa: S106 - a parameter's name
        made="Database",
        option="--database-uri",
        schemes=("postgresql://", "postgres://"),
    ),
    _Address(
        variable="REDIS_URI",
        plain="RedisUri",
        secret="RedisUriSecret",  # noqa: S106 - a parameter's name
        made="Cache",
        option="--redis-uri",
        schemes=("redis://", "rediss://", "unix://"),
    ),
)


def deploy(
    *,
    config: Path,
    output: Path,
    stack_name: str | None,
    environment: str,
    parameters: tuple[str, ...],
    region: str | None,
    profile: str | None,
    database_uri: bool,
    redis_uri: bool,
    python_version: str | None,
    architecture: str | None,
    image_uri: str | None,
    template: Path | None,
    samconfig: Path | None,
    skip_build: bool,
    skip_migrate: bool,
    yes: bool,
    dry_run: bool,
    verbose: bool,
) -> None:
    """Build, deploy, migrate, and say where it is."""
    samconfig = samconfig or deployment_folder() / "samconfig.toml"
    chosen = read_environment(samconfig, environment)
    declared = read_declared(template or deployment_folder() / "template.yaml")
    given = split_parameters(parameters)
    target = chosen_target(python_version, architecture)
    will_be = {"python": target.python, "architecture": target.architecture, "bundles": {}}
    record = _record(output) if skip_build else will_be
    values = choose_parameters(declared, chosen, record, given)
    stack = stack_name or chosen.stack_name or DEFAULT_STACK
    region, profile = region or chosen.region, profile or chosen.profile
    asks = chosen.confirms and not yes
    if asks and not dry_run and not sys.stdin.isatty():
        raise DeploymentError(f"{samconfig} wants the changes confirmed, and there is nobody to ask: give --yes.")
    if not skip_build:
        read_project(config)  # so that nothing has happened if there is none

    def command(program: str, template_file: Path) -> list[str]:
        return sam.deploy_command(
            program,
            template_file,
            samconfig,
            environment,
            parameters=sam_arguments(values),
            options={"stack-name": stack, "region": region, "profile": profile},
            confirm=asks,
            image_repository=_repository(image_uri),
        )

    wanted = {"--database-uri": database_uri, "--redis-uri": redis_uri}
    if dry_run:
        makes = [address for address in _addresses(stack_parameters(declared, values, {})) if wanted[address[0].option]]
        _say_what_would_be_done(
            makes,
            build=None
            if skip_build
            else f"--config {config} --output {output}" + " --otel" * bool(values.get("OtlpEndpoint")),
            deploy=sam.shown(command("sam", output / "stack" / "template.yaml"), declared.hidden),
            migrate=None if skip_migrate else stack,
        )
        return

    program = sam.find_sam()
    account = Account(region=region, profile=profile)
    steps = _Steps(2 + (not skip_build) + (not skip_migrate))
    with steps.step("Looking at the account"):
        deployed = account.stack(stack)
        before = deployed.parameters if deployed else {}
        there_will_be = stack_parameters(declared, values, before)
        _see_to_functions(account, stack, deployed, image_uri, there_will_be)
        _see_to_secrets(account, there_will_be, wanted, stay=set(before) - set(values))
    if not skip_build:
        with steps.step("Building the bundles"):
            report = build_bundles(
                config,
                output,
                target=target,
                for_image=image_uri is not None,
                for_traces=bool(there_will_be.get("OtlpEndpoint")),
                say=lambda line: click.echo(f"      {line}"),
            )
            show(report)
            record = report.to_json()
    values = choose_parameters(declared, chosen, record, given, before)
    with steps.step(f"Deploying the stack {stack}"):
        template_file = make_stack_folder(output, template=template, image_uri=image_uri)
        _deploy(command(program, template_file), account, stack, output, openly=verbose or asks)
    outputs = _outputs(account, stack)
    if not skip_migrate:
        with steps.step("Migrating the database"):
            done = account.migrate(_output(outputs, "MigrateFunctionName", stack))
            applied, graphs = done.get("applied", []), done.get("graphs", [])
            click.echo(f"      {len(applied) or 'no'} migrations applied; graphs: {', '.join(graphs)}")
    _say_where(_output(outputs, "Url", stack))


def _say_what_would_be_done(
    makes: Iterable[tuple[_Address, str]], *, build: str | None, deploy: str, migrate: str | None
) -> None:
    for address, name in makes:
        click.echo(f"# makes the secret {name} from {address.variable}, if there is none")
    if build is not None:
        click.echo(f"langgraph-serverless build {build}")
    click.echo("# parameters that are not named here keep the values that the stack has")
    click.echo(deploy)
    if migrate is not None:
        click.echo(f"aws lambda invoke --function-name <MigrateFunctionName of {migrate}> /dev/stdout")


class _Steps:
    """Says what is being done, and how long it took."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._number = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self._number += 1
        began = time.monotonic()
        click.echo(f"[{self._number}/{self._count}] {title}")
        yield
        click.echo(f"      done in {time.monotonic() - began:.1f} s")


def _record(output: Path) -> dict[str, Any]:
    """What the last build wrote, if that can be deployed."""
    path = output / RECORD_NAME
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeploymentError(
            f"There is nothing to deploy in {output}: run 'langgraph-serverless build' first."
        ) from error
    if record.get("version") != __version__:
        raise DeploymentError(
            f"{output} was built by version {record.get('version')}, and this is {__version__}: build it anew."
        )
    if not all((output / name).is_dir() for name in BUNDLES):
        raise DeploymentError(f"There are bundles missing in {output}: run 'langgraph-serverless build' again.")
    if record.get("dependencies") is False and not os.environ.get("AWS_ENDPOINT_URL"):
        raise DeploymentError(
            f"{output} was built without dependencies, which is for LocalStack only: run 'langgraph-serverless build' again."
        )
    return record


def _see_to_functions(
    account: Account, stack: str, deployed: DeployedStack | None, image_uri: str | None, values: Mapping[str, str]
) -> None:
    """Raises for what CloudFormation would refuse after minutes."""
    if image_uri and values.get("SnapStart") == "true":
        raise DeploymentError(
            "Lambda takes no snapshots of container images: SnapStart and --image-uri exclude each other."
        )
    if len(stack) > LONGEST_STACK:
        raise DeploymentError(
            f"The stack's name may have {LONGEST_STACK} characters, as every function's name begins with it; {stack} has {len(stack)}."
        )
    given = values.get("WorkerConcurrency", "")
    workers = int(given) if given.isdecimal() else 0  # what is no number CloudFormation refuses at once
    if workers and values.get("ReserveWorkerConcurrency", "true") == "true":
        most = account.reservable(f"{stack}-worker")
        if most is not None and workers > most:
            raise DeploymentError(
                f"Lambda can reserve {most} of this account's concurrency here, and not WorkerConcurrency={workers}, as 100 are left to"
                " other functions. Give --parameter ReserveWorkerConcurrency=false (whoever invokes workers keeps to the limit all the"
                " same), or a smaller number, or have the quota 'Concurrent executions' raised."
            )
    if values.get("AccessLogs") == "true" and account.logs_requests() is False:
        raise DeploymentError(
            "AccessLogs=true needs a role with which API Gateway may write logs, one for all APIs of this account and region: make"
            " one with the policy AmazonAPIGatewayPushToCloudWatchLogs, and name it in API Gateway's settings."
        )
    if deployed is None:
        return
    deployed.check()
    wanted = "Image" if image_uri else "Zip"
    if account.package_type(f"{stack}-worker") not in {wanted, None}:
        raise DeploymentError(
            "Lambda cannot make a container image of a function that is an archive, nor the other way round: "
            + ("leave out --image-uri" if image_uri else "give --image-uri")
            + f", or delete the stack {stack} first, or deploy another one (--stack-name)."
        )


def _addresses(values: Mapping[str, str]) -> Iterator[tuple[_Address, str]]:
    """The addresses that come from secrets, with the secrets' names."""
    for address in ADDRESSES:
        name = values.get(address.secret, "")
        if values.get(address.made, "") in {"", "bring"} and not values.get(address.plain) and name:
            yield address, name


def _see_to_secrets(
    account: Account, values: Mapping[str, str], wanted: Mapping[str, bool], *, stay: Collection[str]
) -> None:
    """``stay`` are the parameters that keep the stack's values."""
    made = {}
    for address, name in _addresses(values):
        if not wanted[address.option] and {address.plain, address.secret, address.made} <= set(stay):
            continue  # it is as it was; and if it was the address itself, that is hidden
        there = account.has_secret(name)
        if there:
            click.echo(
                f"      the secret {name} is there" + (", and is left as it is" if wanted[address.option] else "")
            )
        elif wanted[address.option]:
            made[name] = _ask(address)
        elif there is None:
            click.echo(f"      whether there is a secret {name} may not be asked with these credentials; going on")
        else:
            raise DeploymentError(
                f"There is no secret {name}, from which the functions read {address.variable}. Give {address.option}, which"
                f" makes it from {address.variable} or asks for the address; or have the stack make one of its own"
                f" (--parameter {address.made}=..., see docs/guides/running-on-lambda.md)."
            )
    for name, value in made.items():  # all of them or none
        account.create_secret(name, value)
        click.echo(f"      the secret {name} is made")


def _ask(address: _Address) -> str:
    value = os.environ.get(address.variable, "")
    if not value and sys.stdin.isatty():
        value = click.prompt(f"      {address.variable}", hide_input=True)
    if not value.startswith(address.schemes):
        schemes = " or ".join(f"{scheme}..." for scheme in address.schemes)
        raise DeploymentError(
            f"{address.option} needs an address ({schemes}) in {address.variable}, or a terminal to ask for it."
        )
    return value


def _deploy(command: list[str], account: Account, stack: str, output: Path, *, openly: bool) -> None:
    before, log = account.last_event(stack), output / "sam.log"
    outcome = sam.run_openly(command, output) if openly else sam.run_quietly(command, output, log, click.echo)
    if outcome.code == 0:
        if outcome.nothing_to_do:
            click.echo("      nothing has changed")
        return
    reasons = account.failures(stack, before)
    if not reasons:
        raise DeploymentError(f"sam deploy failed (exit code {outcome.code}).\n{outcome.words}".rstrip())
    more = f"\n... and {len(reasons) - MOST_REASONS} more" if len(reasons) > MOST_REASONS else ""
    where = "" if openly else f"\nAll that the SAM CLI said is in {log}."
    raise DeploymentError(
        f"The stack {stack} could not be deployed:\n" + "\n".join(reasons[:MOST_REASONS]) + more + where
    )


def _outputs(account: Account, stack: str) -> Mapping[str, str]:
    deployed = account.stack(stack)
    if deployed is None:  # whoever was asked has said no
        raise DeploymentError(f"There is no stack {stack}: what was planned has not been carried out.")
    return deployed.outputs


def _output(outputs: Mapping[str, str], name: str, stack: str) -> str:
    if name not in outputs:
        raise DeploymentError(f"The stack {stack} has no output {name}, which this command needs.")
    return outputs[name]


def _repository(image_uri: str | None) -> str | None:
    """An image's repository, without digest or tag; a registry's port is no tag."""
    if image_uri is None:
        return None
    registry, slash, name = image_uri.partition("@")[0].rpartition("/")
    return f"{registry}{slash}{name.partition(':')[0]}"


def _say_where(url: str) -> None:
    click.echo(f"\n{url}\n\nTry it:")
    click.echo(f"  curl -s -X POST {url}/assistants/search -H 'Content-Type: application/json' -d '{{}}'")
