"""The account that is deployed to: secrets, the stack's outputs, why it failed, and the migration.

Promises that a secret's value is sent to Secrets Manager and nowhere else, and that every answer of AWS that can be expected is one
sentence. Relies on boto3, which is imported here only and has its own extra (``langgraph-serverless[deploy]``), and on the usual
credentials. Existing secrets are never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from langgraph_serverless.errors import DeploymentError

#: Longer than a function may take.
MIGRATE_TIMEOUT_S = 930
FAILED = "_FAILED"
#: What Lambda never reserves, or all of it in an account that has less.
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
LEFT_TO_OTHERS = 100
#: What CloudFormation says of resources that have only been stopped because another one failed.
_CONSEQUENCES = ("Resource creation cancelled", "Resource update cancelled", "The following resource(s) failed")
_STACK = "AWS::CloudFormation::Stack"
_BEGINNINGS = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
#: A change set that nobody has carried out: there is nothing yet.
_ANNOUNCED = "REVIEW_IN_PROGRESS"
#: States in which CloudFormation refuses an update.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
_NEVER_MADE = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_HALF_BACK = "UPDATE_ROLLBACK_FAILED"


@dataclass(frozen=True, kw_only=True)
class DeployedStack:
    """A stack as it is. Values of hidden parameters are asterisks."""

    name: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    def check(self) -> None:
        """
        Raises:
            DeploymentError: it cannot be updated, with what can be done.
        """
        if self.status in _NEVER_MADE:
            raise DeploymentError(
                f"The stack {self.name} is in the state {self.status}, which CloudFormation only lets you delete. Run"
                f" 'aws cloudformation delete-stack --stack-name {self.name}', wait until it is gone, and deploy again."
            )
        if self.status == _HALF_BACK:
            raise DeploymentError(
                f"The stack {self.name} is in the state {self.status}: its last update could not be taken back. Run"
                f" 'aws cloudformation continue-update-rollback --stack-name {self.name}', and deploy again when that is done."
            )
        if self.status.endswith("_IN_PROGRESS"):
            raise DeploymentError(
                f"The stack {self.name} is being changed already ({self.status}): wait until that is done, and deploy again."
            )


class Account:
    """One region of one account."""

    def __init__(self, *, region: str | None, profile: str | None) -> None:
        try:
            import boto3  # noqa: PLC0415 - an extra of its own
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        except ImportError as error:
            raise DeploymentError("Deploying needs boto3: pip install 'langgraph-serverless[deploy]'.") from error
        patient = Config(read_timeout=MIGRATE_TIMEOUT_S, retries={"total_max_attempts": 1}, tcp_keepalive=True)
        try:
            session = boto3.Session(region_name=region, profile_name=profile)
            if session.get_credentials() is None:
                raise DeploymentError(
                    "There are no credentials of AWS: run 'aws configure' or 'aws sso login', or give --profile."
                )
            self._session = session
            self._stacks = session.client("cloudformation")
            self._secrets = session.client("secretsmanager")
            self._functions = session.client("lambda", config=patient)
        except BotoCoreError as error:
            raise DeploymentError(f"AWS cannot be asked: {error}") from error

    def has_secret(self, name: str) -> bool | None:
        """Whether there is a secret of this name or ARN; None if that may not be asked."""
        try:
            with _sentences("The secret cannot be looked for"):
                return "DeletedDate" not in self._secrets.describe_secret(SecretId=name)
        except _Refused as refusal:
            if refusal.reason == "ResourceNotFoundException":
                return False
            if "AccessDenied" in refusal.reason:
                return None
            raise

    def create_secret(self, name: str, value: str) -> None:
        """Makes a secret; its value appears in no message."""
        with _sentences(f"The secret {name} cannot be made"):
            self._secrets.create_secret(Name=name, SecretString=value)

    def stack(self, name: str) -> DeployedStack | None:
        """The stack as it is, if there is one."""
        try:
            with _sentences(f"The stack {name} cannot be looked at"):
                (found,) = self._stacks.describe_stacks(StackName=name)["Stacks"]
        except _Refused as refusal:
            if refusal.reason == "ValidationError" and "does not exist" in str(refusal):
                return None
            raise
        if found["StackStatus"] == _ANNOUNCED:
            return None
        return DeployedStack(
            name=name,
            status=found["StackStatus"],
            parameters={one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", [])},
            outputs={one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])},
        )

    def package_type(self, function: str) -> str | None:
        """``Zip`` or ``Image``; None if that may not be asked."""
        try:
            with _sentences(f"The function {function} cannot be looked at"):
                return str(self._functions.get_function_configuration(FunctionName=function).get("PackageType", "Zip"))
        except _Refused:
            return None

    def reservable(self, function: str) -> int | None:
        """How much of the account's concurrency Lambda can reserve for this function; None if that may not be asked."""
        try:
            with _sentences("The account's concurrency cannot be looked at"):
                limits = self._functions.get_account_settings()["AccountLimit"]
        except _Refused:
            return None
        try:
            with _sentences(f"The function {function} cannot be looked at"):
                has = self._functions.get_function_concurrency(FunctionName=function)
        except _Refused:
            has = {}  # there is no such function yet
        left = min(LEFT_TO_OTHERS, limits["ConcurrentExecutions"])
        return max(0, int(limits["UnreservedConcurrentExecutions"] + has.get("ReservedConcurrentExecutions", 0) - left))

    def logs_requests(self) -> bool | None:
        """Whether API Gateway has the role with which it writes logs, one for all APIs of a region; None if that may not be asked."""
        try:
            with _sentences("The settings of API Gateway cannot be looked at"):
                return bool(self._session.client("apigateway").get_account().get("cloudwatchRoleArn"))
        except _Refused:
            return None

    def last_event(self, stack: str) -> str | None:
        """The newest thing that happened to the stack, after which a deployment's own events come."""
        try:
            with _sentences("The stack's events cannot be read"):
                events = self._stacks.describe_stack_events(StackName=stack)["StackEvents"]
        except _Refused:
            return None  # there is no stack yet
        return str(events[0]["EventId"]) if events else None

    def failures(self, stack: str, after: str | None) -> list[str]:
        """Why resources failed after that event, the first one first; of a nested stack it is what failed inside."""
        try:
            with _sentences("The stack's events cannot be read"):
                pages = self._stacks.get_paginator("describe_stack_events").paginate(StackName=stack)
                events = [event for page in pages for event in page["StackEvents"]]
        except _Refused:
            return []  # no stack: the SAM CLI did not get that far, and says why
        found = []
        for event in reversed(list(takewhile(lambda event: event["EventId"] != after, events))):
            found += self._reasons(event)
        return found

    def _reasons(self, event: dict[str, Any]) -> list[str]:
        reason = event.get("ResourceStatusReason", "")
        if not event["ResourceStatus"].endswith(FAILED) or reason.startswith(_CONSEQUENCES):
            return []
        inner = event.get("PhysicalResourceId", "")
        if event["ResourceType"] == _STACK and inner == event["StackId"]:
            return []  # says of the whole what others say of its parts
        inside = self._reasons_of_nested(inner) if event["ResourceType"] == _STACK and inner else []
        if inside or not reason:
            return inside
        return [f"{event['LogicalResourceId']} ({event['ResourceType']}) {event['ResourceStatus']}: {reason}"]

    def _reasons_of_nested(self, stack: str) -> list[str]:
        """Of the last thing that was tried with it."""
        pages = self._stacks.get_paginator("describe_stack_events").paginate(StackName=stack)
        last = []
        for event in (event for page in pages for event in page["StackEvents"]):
            last.append(event)
            if event["PhysicalResourceId"] == event["StackId"] and event["ResourceStatus"] in _BEGINNINGS:
                break
        return [reason for event in reversed(last) for reason in self._reasons(event)]

    def migrate(self, function: str) -> dict[str, Any]:
        """Invokes the migrate function and waits for it; what it did."""
        with _sentences(f"The stack is deployed, but its function {function} cannot be invoked"):
            answer = self._functions.invoke(FunctionName=function, Payload=b"{}")
            payload = json.loads(answer["Payload"].read() or b"null")
        if "FunctionError" in answer:
            reason = payload.get("errorMessage", payload) if isinstance(payload, dict) else payload
            raise DeploymentError(
                f"The stack is deployed, but the migration failed: {reason}\nUntil it is done, what needs the new tables"
                " is answered with errors. 'deploy --skip-build', as before otherwise, tries it again."
            )
        return payload if isinstance(payload, dict) else {}


class _Refused(DeploymentError):
    """AWS says no."""

    def __init__(self, message: str, code: str) -> None:
        self.reason = code
        super().__init__(message)


@contextmanager
def _sentences(beginning: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        raise _Refused(f"{beginning}: {details.get('Message', error)}", str(details.get("Code", ""))) from error
    except BotoCoreError as error:
        raise DeploymentError(f"{beginning}: {error}") from error
