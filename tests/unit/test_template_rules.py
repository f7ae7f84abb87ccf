"""Parameters that contradict each other are refused with a sentence before anything is made: the root's ``Rules``, worked out."""

from typing import Any

import pytest
from templates import Template, load_root


@pytest.fixture(scope="module")
def root() -> Template:
    return load_root()


def holds(test: Any, given: dict[str, str]) -> bool:
    """What CloudFormation makes of a rule's function."""
    ((name, arguments),) = test.items()
    match name:
        case "Fn::And":
            return all(holds(each, given) for each in arguments)
        case "Fn::Or":
            return any(holds(each, given) for each in arguments)
        case "Fn::Not":
            return not holds(arguments[0], given)
        case "Fn::Equals":
            left, right = (given[each["Ref"]] if isinstance(each, dict) else str(each) for each in arguments)
            return left == right
    raise AssertionError(f"rules know no {name}")


def refusals(root: Template, **given: str) -> list[str]:
    assert set(given) <= set(root["Parameters"])
    values = {name: str(parameter["Default"]) for name, parameter in root["Parameters"].items()} | given
    return [
        assertion["AssertDescription"]
        for rule in root["Rules"].values()
        if "RuleCondition" not in rule or holds(rule["RuleCondition"], values)
        for assertion in rule["Assertions"]
        if not holds(assertion["Assert"], values)
    ]


OWN = {"VpcId": "vpc-1", "VpcSubnetIds": "subnet-1,subnet-2", "VpcSecurityGroupIds": "sg-1"}
NEW = {"CreateNetwork": "true"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        OWN,
        {"VpcSubnetIds": "subnet-1", "VpcSecurityGroupIds": "sg-1"},
        NEW | {"NatGateway": "true"},
        NEW | {"Database": "aurora", "Cache": "valkey"},
        OWN | {"Database": "postgres", "DatabaseProxy": "true"},
        NEW | {"Database": "aurora", "DatabaseProxy": "true", "DatabaseMinCapacity": "0.5"},
        {"SnapStart": "true", "Release": "a"},
        {"ProvisionedConcurrency": "2", "Release": "a", "PythonVersion": "3.12"},
        NEW | {"ApiEndpointType": "PRIVATE"},
        {"ApiEndpointType": "PRIVATE", "ApiVpcEndpointIds": "vpce-1"},
        {"DatabaseUri": "postgresql://", "RedisUri": "redis://"},
    ],
)
def test_what_goes_together_is_taken(root: Template, given: dict[str, str]) -> None:
    assert refusals(root, **given) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (NEW | OWN, "CreateNetwork makes a VPC"),
        ({"NatGateway": "true"}, "NatGateway is part of the network"),
        ({"VpcSubnetIds": "subnet-1"}, "are given together"),
        ({"VpcSecurityGroupIds": "sg-1"}, "are given together"),
        ({"Database": "aurora"}, "A database is made in a VPC"),
        ({"Database": "postgres", "VpcId": "vpc-1"}, "A database is made in a VPC"),
        ({"DatabaseUriSecret": ""}, "Say where your database is"),
        ({"Cache": "valkey"}, "A cache is made in a VPC"),
        ({"Cache": "valkey", "VpcId": "vpc-1"}, "A cache is made in a VPC"),
        (NEW | {"Database": "aurora", "DatabaseUri": "postgresql://"}, "DatabaseUri is the address"),
        (NEW | {"Cache": "valkey", "RedisUri": "redis://"}, "RedisUri is the address"),
        ({"DatabaseProxy": "true"}, "DatabaseProxy is for a database that the stack makes"),
        (NEW | {"Database": "aurora", "DatabaseProxy": "true"}, "Aurora cannot pause"),
        ({"SnapStart": "true", "Release": "a", "ProvisionedConcurrency": "1"}, "not both"),
        ({"SnapStart": "true"}, "a Release of its own"),
        ({"ProvisionedConcurrency": "1"}, "a Release of its own"),
        ({"ApiEndpointType": "PRIVATE"}, "called through an endpoint"),
    ],
)
def test_what_contradicts_is_refused_with_a_sentence(root: Template, given: dict[str, str], sentence: str) -> None:
    (said,) = refusals(root, **given)
    assert sentence in said
