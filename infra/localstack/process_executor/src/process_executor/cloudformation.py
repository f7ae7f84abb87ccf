"""What LocalStack's CloudFormation lacks to deploy nested stacks again, and to delete them; and haste.

LocalStack (4.13) leaves a nested stack as it is when its template or its parameters change, and says that it has been
updated. It can neither update nor delete a stack of which a resource that its condition leaves out refers to another
such. And it looks once a second whether a resource is there, one resource after the other, where a function takes a tenth of that.
"""

import uuid

from localstack.services.cloudformation.engine.v2.change_set_model import Nothing
from localstack.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
from localstack.services.cloudformation.engine.v2.change_set_model_preproc import (
    ChangeSetModelPreproc,
    PreprocEntityDelta,
)
from localstack.services.cloudformation.engine.validations import ValidationError
from localstack.services.cloudformation.resource_provider import (
    OperationStatus,
    ProgressEvent,
    ResourceProviderExecutor,
)
from localstack.services.cloudformation.resource_providers.aws_cloudformation_stack import CloudFormationStackProvider
from localstack.utils.patch import patch

POLL_S = 0.1
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
UNDER_WAY = "update_under_way"
NO_CHANGES = "didn't contain changes"


def install() -> None:
    patch(ResourceProviderExecutor.deploy_loop)(_deploy_loop)
    patch(CloudFormationStackProvider.update)(_update_nested_stack)
    patch(ChangeSetModelPreproc._resolve_attribute)(_resolve_attribute)
    patch(ChangeSetModelExecutor.visit_node_resource)(_visit_node_resource)


def _deploy_loop(target, self, *args, **kwargs):
    return target(self, *args, **{"sleep_time": POLL_S, **kwargs})


def _resolve_attribute(target, self, arguments, select_before):
    try:
        return target(self, arguments, select_before)
    except ValidationError:
        if not select_before:
            raise
        return "left out"  # of what is there, so nobody asks for it who is there


def _visit_node_resource(target, self, node_resource):
    try:
        return target(self, node_resource)
    except KeyError as error:
        if error.args != ("ResourceStatus",):
            raise
        # it stands unchanged in the template, and has never been there
        self.resources.pop(node_resource.name, None)
        return PreprocEntityDelta(before=Nothing, after=Nothing)


def _update_nested_stack(target, self, request):
    """As ``create`` does: begins, and is called again until it says that the stack is there."""
    client, model = request.aws_client_factory.cloudformation, {**request.previous_state, **request.desired_state}
    if not request.custom_context.get(UNDER_WAY):
        _begin_update(client, model)
    stack = client.describe_stacks(StackName=model["Id"])["Stacks"][0]
    status = OperationStatus.IN_PROGRESS
    if stack["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        status = OperationStatus.SUCCESS
        model["Outputs"] = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
    elif not stack["StackStatus"].endswith("_IN_PROGRESS"):
        status = OperationStatus.FAILED
    return ProgressEvent(
        status=status,
        resource_model=model,
        custom_context={**request.custom_context, UNDER_WAY: True},
        message=stack["StackStatus"],
    )


def _begin_update(client, model) -> None:
    # by a change set: LocalStack's update_stack calls what has failed a success
    name = f"nested-{uuid.uuid4().hex}"
    parameters = [
        {"ParameterKey": key, "ParameterValue": str(value).lower() if isinstance(value, bool) else str(value)}
        for key, value in (model.get("Parameters") or {}).items()
    ]
    client.create_change_set(
        StackName=model["Id"],
        ChangeSetName=name,
        ChangeSetType="UPDATE",
        TemplateURL=model["TemplateURL"],
        Parameters=parameters,
        Capabilities=CAPABILITIES,
    )
    change_set = client.describe_change_set(StackName=model["Id"], ChangeSetName=name)
    if change_set["Status"] != "FAILED":
        client.execute_change_set(StackName=model["Id"], ChangeSetName=name)
    elif NO_CHANGES not in change_set.get("StatusReason", ""):
        raise RuntimeError(change_set.get("StatusReason"))
