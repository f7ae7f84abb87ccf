"""S17: no function may do more than its code does. Every role and every policy of all templates, in all of their branches.

``problems`` finds what is too wide; the templates have none, and templates that somebody has made wider by one word have.
What a function's code does is told by its variables: who is given a name or a secret uses it, and nobody else may.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from templates import ROOT, branches, items, load_nested, load_root, text

Templates = dict[str, dict[str, Any]]

#: Actions that know no narrower resource, or none that is known when the policy is written; each with its reason.
WIDE = {
    # What Lambda does in the function's name when it connects it to a VPC; describing knows no resources, and the interfaces that
    # are made and deleted have no names before. The function's own code is denied all of it (NotByTheCode).
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
    "*": {
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:DeleteNetworkInterface",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
        # X-Ray knows no resources: https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsx-ray.html
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
    },
    # A network's endpoint, beside the roles of those who use it: the secrets come later than the network.
    "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:*": {"secretsmanager:GetSecretValue"},
    # All paths and methods of one stage are one application, which tells them apart.
    "execute-api:/${Stage}/*": {"execute-api:Invoke"},
}
NETWORK = {action for action in WIDE["*"] if action.startswith("ec2:")}
TRACES = {action for action in WIDE["*"] if action.startswith("xray:")}
LAMBDA = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:"
#: Secrets Manager adds six characters to a name.
SECRET_NAME = re.compile(r"arn:[^*?]+:secret:\$\{\w+\}-\?{6}")
#: The condition of a policy that names everybody: who they must be after all.
WHO = ("aws:PrincipalAccount", "aws:SourceVpce", "aws:SourceAccount", "aws:SourceArn")
POLICIES = ("PolicyDocument", "AssumeRolePolicyDocument", "ResourcePolicy", "x-amazon-apigateway-policy")


@pytest.fixture(scope="module")
def templates() -> Templates:
    return {"template": load_root(), **load_nested()}


def resources(templates: Templates, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for file, template in templates.items():
        for name, resource in template["Resources"].items():
            if resource["Type"] == kind:
                yield file, name, resource["Properties"]


def documents(value: Any) -> Iterator[dict[str, Any]]:
    """Every policy document below a value, wherever it is."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key in POLICIES:
                yield from branches(below)
            else:
                yield from documents(below)
    elif isinstance(value, list):
        for below in value:
            yield from documents(below)


def statements(value: Any) -> Iterator[dict[str, Any]]:
    for document in documents(value):
        yield from items(document["Statement"])


def meanings(file: str, resource: str, templates: Templates) -> list[str]:
    """What a resource may be once parameters of a nested stack are what the root gives."""
    match = re.fullmatch(r"\$\{(\w+)\}", resource)
    if match is None or match[1] not in templates[file].get("Parameters", {}):
        return [resource]
    (stack,) = (
        stack
        for _, _, stack in resources(templates, "AWS::CloudFormation::Stack")
        if stack["TemplateURL"] == f"infra/{file}.yaml"
    )
    return [text(each) for each in branches(stack["Parameters"][match[1]]) if each != ""]


def too_wide(file: str, statement: dict[str, Any], templates: Templates) -> Iterator[str]:
    """What is wrong with one statement."""
    if {"NotAction", "NotResource", "NotPrincipal"} & statement.keys():
        yield "says what is not meant"
    actions = set(items(statement["Action"]))
    if any("*" in action or "?" in action for action in actions):
        yield f"actions with a wildcard: {actions}"
    if statement["Effect"] == "Deny":
        return
    for resource in (text(each) for each in items(statement.get("Resource", []))):
        for meaning in meanings(file, resource, templates):
            narrow = not set("*?") & set(meaning) or SECRET_NAME.fullmatch(meaning)
            if not narrow and not actions <= WIDE.get(meaning, set()):
                yield f"{actions} on {meaning}"
    principal = statement.get("Principal", {})
    conditions = [key for test in statement.get("Condition", {}).values() for key in test]
    if "*" in str(principal) and not any(key in WHO for key in conditions):
        yield "allows it to everybody"
    if isinstance(principal, dict) and set(principal) - {"Service"}:
        yield f"trusts {principal}"


def functions(templates: Templates) -> Iterator[tuple[str, str, dict[str, Any], dict[str, Any]]]:
    """Template, folder, properties and variables of every function."""
    for file, name, function in resources(templates, "AWS::Serverless::Function"):
        common = templates[file]["Globals"]["Function"]
        variables = {**common["Environment"]["Variables"], **function.get("Environment", {}).get("Variables", {})}
        yield file, name.removesuffix("Function").lower(), function, variables


def needed(folder: str, function: dict[str, Any], variables: dict[str, Any]) -> dict[str, set[str]]:
    """What a function has to be allowed, as its code does it: resource to actions."""
    needs = {f"${{{folder.title()}Logs.Arn}}": {"logs:CreateLogStream", "logs:PutLogEvents"}, "*": NETWORK | TRACES}
    read, invoke = {"secretsmanager:GetSecretValue"}, {"lambda:InvokeFunction"}
    needs["${SecretsKeyArn}"] = {"kms:Decrypt"}  # where secrets have a key of the user's
    by_variable = (
        ("DATABASE_URI_SECRET", "${DatabaseSecretArn}", read),
        ("REDIS_URI_SECRET", "${RedisSecretArn}", read),
        ("WEBHOOK_SIGNING_SECRETS_SECRET", "${WebhookSigningSecretArn}", read),
        ("WEBHOOK_VARIABLES_SECRET", "${WebhookVariablesSecretArn}", read),
        ("WORKER_FUNCTION_NAME", f"{LAMBDA}${{Prefix}}-worker", invoke),
        ("STATE_FUNCTION_NAME", f"{LAMBDA}${{StateFunctionName}}", invoke),
    )
    needs |= {resource: actions for variable, resource, actions in by_variable if variable in variables}
    if "DestinationConfig" in function.get("EventInvokeConfig", {}):
        needs["${FailedInvocations.Arn}"] = {"sqs:SendMessage"}
    return needs


def problems(templates: Templates) -> list[str]:
    found = []
    for file, template in templates.items():
        for name, resource in template["Resources"].items():
            found += [
                f"{file}: {name} {what}"
                for statement in statements(resource["Properties"])
                for what in too_wide(file, statement, templates)
            ]
            if resource["Type"] in ("AWS::IAM::ManagedPolicy", "AWS::IAM::Policy", "AWS::Serverless::Connector"):
                found.append(f"{file}: {name} may be attached to several roles")
            if resource["Type"] == "AWS::IAM::Role" and "ManagedPolicyArns" in resource["Properties"]:
                found.append(f"{file}: {name} has a policy that others write")
            if resource["Type"] == "AWS::Lambda::Permission" and "SourceArn" not in resource["Properties"]:
                found.append(f"{file}: {name} lets anybody's {resource['Properties']['Principal']} invoke it")
    owners: dict[tuple[str, str], str] = {}
    for file, folder, function, variables in functions(templates):
        role = function.get("Role", {}).get("Fn::GetAtt", "").removesuffix(".Arn")
        if not role or {"Policies", "ManagedPolicyArns"} & function.keys():
            found.append(f"{folder} has no role of its own, so SAM gives it one with managed policies")
            continue
        if owners.setdefault((file, role), folder) != folder:
            found.append(f"{folder} and {owners[file, role]} share {role}")
        properties = templates[file]["Resources"][role]["Properties"]
        (trust,) = properties["AssumeRolePolicyDocument"]["Statement"]
        if trust != {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}:
            found.append(f"{folder}: its role is also for others: {trust}")
        allowed: dict[str, set[str]] = {}
        denied: list[dict[str, Any]] = []
        for statement in statements({"Policies": properties["Policies"]}):
            if statement["Effect"] == "Deny":
                denied.append(statement)
                continue
            for resource in items(statement["Resource"]):
                allowed.setdefault(text(resource), set()).update(items(statement["Action"]))
        needs = needed(folder, function, variables)
        for resource in sorted(allowed.keys() | needs.keys()):
            has, wants = allowed.get(resource, set()), needs.get(resource, set())
            found += [f"{folder} may {action} on {resource} without need" for action in sorted(has - wants)]
            found += [f"{folder} may not {action} on {resource}" for action in sorted(wants - has)]
        code = {"ArnEquals": {"lambda:SourceFunctionArn": {"Fn::Sub": f"{LAMBDA}${{Prefix}}-{folder}"}}}
        if not any(set(each["Action"]) == NETWORK and each["Condition"] == code for each in denied):
            found.append(f"{folder}: its code may do what is for Lambda only")
    return found


def test_nobody_may_do_more_than_needed_and_everybody_enough(templates: Templates) -> None:
    assert sum(1 for _ in functions(templates)) == 14
    assert problems(templates) == []


def test_every_call_of_the_code_to_aws_is_one_of_those_that_roles_are_written_for() -> None:
    """A new one needs a permission, a variable that stands for it, and an endpoint in ``infra/network.yaml``."""
    call = re.compile(r"""client\(\s*["'](\w+)["']|((?:Secrets|SSM|AppConfig|DynamoDB)Provider)\(""")
    found = {
        (str(path.relative_to(ROOT)), match[1] or match[2])
        for folder in ("core/langgraph_serverless", "functions")
        for path in (ROOT / folder).rglob("*.py")
        if not {"cli", "build", "deploy"} & set(path.parts)  # they run with the rights of whoever types
        for match in call.finditer(path.read_text())
    }
    assert found == {
        ("core/langgraph_serverless/queue/worker_function.py", "lambda"),
        ("core/langgraph_serverless/function_client.py", "lambda"),
        ("core/langgraph_serverless/function_secrets.py", "SecretsProvider"),
        ("core/langgraph_serverless/function_secrets.py", "SSMProvider"),  # no variable of the templates asks for it
    }


def test_logs_are_of_one_function_and_do_not_stay_forever(templates: Templates) -> None:
    for file, folder, _, _ in functions(templates):
        group = templates[file]["Resources"][f"{folder.title()}Logs"]
        assert group["Type"] == "AWS::Logs::LogGroup"
        assert group["Properties"] == {
            "LogGroupName": {"Fn::Sub": f"/aws/lambda/${{Prefix}}-{folder}"},
            "RetentionInDays": {"Ref": "LogRetentionDays"},
        }


def test_the_way_out_of_a_network_is_as_wide_as_it_has_to_be(templates: Templates) -> None:
    """Without a NAT gateway functions reach the network only, with one what they have to; nobody outside reaches anything."""
    anywhere = []
    for file, name, group in resources(templates, "AWS::EC2::SecurityGroup"):
        assert group["SecurityGroupEgress"], f"{name}: without a rule CloudFormation allows everything"
        for rule in items(group.get("SecurityGroupIngress", [])):
            assert "0.0.0.0/0" not in str(rule), (file, name)
            assert rule["IpProtocol"] == "tcp"
            assert rule["FromPort"] == rule["ToPort"]
        anywhere += [
            (name, rule["FromPort"], rule["ToPort"], rule["CidrIp"]["Fn::If"][0])
            for rule in items(group["SecurityGroupEgress"])
            if "0.0.0.0/0" in str(rule)
        ]
    assert anywhere == [
        ("FunctionSecurityGroup", 5432, 5432, "DatabaseOutside"),
        ("FunctionSecurityGroup", 6379, 6380, "CacheOutside"),
        ("FunctionSecurityGroup", 443, 443, "Nat"),
    ]
    for name in ("DatabaseOutside", "CacheOutside"):
        assert templates["network"]["Conditions"][name]["Fn::And"][0] == {"Condition": "Nat"}
    given = of(templates, "template", "Network")["Parameters"]
    assert given["DatabaseOutside"] == {"Fn::If": ["MakesDatabase", "false", "true"]}
    assert given["CacheOutside"] == {"Fn::If": ["MakesCache", "false", "true"]}


def policy(templates: Templates, file: str, role: str) -> list[Any]:
    found: list[Any] = templates[file]["Resources"][role]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    return found


def of(templates: Templates, file: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = templates[file]["Resources"][name]["Properties"]
    return found


INVOKE = {"Effect": "Allow", "Action": "lambda:InvokeFunction"}
WIDER: dict[str, tuple[str, Callable[[Templates], Any]]] = {
    "all actions": (
        "wildcard",
        lambda t: policy(t, "api", "CronsRole").append({"Effect": "Allow", "Action": "sqs:*", "Resource": "arn:x"}),
    ),
    "all resources": (
        r"lambda:InvokeFunction'} on \*",
        lambda t: policy(t, "api", "CronsRole").append(INVOKE | {"Resource": "*"}),
    ),
    "all functions of the stack": (
        "CronsRole .*on arn",
        lambda t: policy(t, "api", "CronsRole").append(INVOKE | {"Resource": {"Fn::Sub": f"{LAMBDA}${{Prefix}}-*"}}),
    ),
    "all secrets, in the root": (
        "GetSecretValue'} on arn",
        lambda t: of(t, "template", "ApiStack")["Parameters"].update(
            RedisSecretArn="arn:aws:secretsmanager:::secret:*"
        ),
    ),
    "what others need": (
        "crons may lambda:InvokeFunction on .*worker without need",
        lambda t: policy(t, "api", "CronsRole").append(
            INVOKE | {"Resource": {"Fn::Sub": f"{LAMBDA}${{Prefix}}-worker"}}
        ),
    ),
    "a variable less": (
        "crons may secretsmanager:GetSecretValue .* without need",
        lambda t: t["api"]["Globals"]["Function"]["Environment"]["Variables"].pop("DATABASE_URI_SECRET"),
    ),
    "a permission less": ("runs may not lambda:InvokeFunction", lambda t: policy(t, "api", "RunsRole").pop(3)),
    "a role for two": (
        "share StoreRole",
        lambda t: of(t, "api", "CronsFunction").update(Role={"Fn::GetAtt": "StoreRole.Arn"}),
    ),
    "no role": ("crons has no role of its own", lambda t: of(t, "api", "CronsFunction").pop("Role")),
    "policies of SAM": (
        "crons has no role of its own",
        lambda t: of(t, "api", "CronsFunction").update(Policies=["AWSLambda_FullAccess"]),
    ),
    "a managed policy": (
        "StateRole has a policy that others write",
        lambda t: of(t, "api", "StateRole").update(ManagedPolicyArns=["arn:aws:iam::aws:policy/AdministratorAccess"]),
    ),
    "a role for others too": (
        "worker: its role is also for others",
        lambda t: of(t, "workers", "WorkerRole").update(
            AssumeRolePolicyDocument={
                "Statement": [
                    {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
                ]
            }
        ),
    ),
    "all keys": (
        "kms:Decrypt'} on arn",
        lambda t: of(t, "template", "Workers")["Parameters"].update(SecretsKeyArn="arn:aws:kms:::key/*"),
    ),
    "a queue for everybody": (
        "FailedInvocationsPolicy allows it to everybody",
        lambda t: of(t, "workers", "FailedInvocationsPolicy")["PolicyDocument"]["Statement"][0].update(
            Principal="*", Condition={}
        ),
    ),
    "an endpoint for everybody": (
        "LambdaEndpoint allows it to everybody",
        lambda t: of(t, "network", "LambdaEndpoint")["PolicyDocument"]["Statement"][0].pop("Condition"),
    ),
    "a function for anybody's API": (
        "lets anybody's apigateway",
        lambda t: of(t, "api", "CallRunsFromApi").pop("SourceArn"),
    ),
    "all but": (
        "says what is not meant",
        lambda t: policy(t, "api", "CronsRole").append(
            {"Effect": "Allow", "Action": "sqs:SendMessage", "NotAction": "s3:GetObject", "Resource": "arn:x"}
        ),
    ),
    "code that may do Lambda's part": ("crons: its code may do", lambda t: policy(t, "api", "CronsRole").pop(-2)),
}


@pytest.mark.parametrize("name", WIDER)
def test_one_word_more_is_found(templates: Templates, name: str) -> None:
    expected, widen = WIDER[name]
    changed = deepcopy(templates)
    widen(changed)
    assert re.search(expected, "\n".join(problems(changed)))
