"""The database and the cache that the template makes: closed to all but the functions, encrypted, and without a password in sight."""

from __future__ import annotations

import re
from typing import Any

import pytest
from templates import ROOT, load

INFRA = ROOT / "infra"
Resources = dict[str, dict[str, Any]]


def of_type(resources: Resources, kind: str) -> Resources:
    return {name: resource for name, resource in resources.items() if resource["Type"] == kind}


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return load(INFRA / "data.yaml")


@pytest.fixture(scope="module")
def cache() -> dict[str, Any]:
    return load(INFRA / "cache.yaml")


def databases(data: dict[str, Any]) -> Resources:
    """What has storage of its own: the cluster, and the instance that is in none."""
    found = {**of_type(data["Resources"], "AWS::RDS::DBCluster"), **of_type(data["Resources"], "AWS::RDS::DBInstance")}
    return {name: one for name, one in found.items() if "DBClusterIdentifier" not in one["Properties"]}


def test_a_database_is_encrypted_saved_and_kept(data: dict[str, Any]) -> None:
    found = databases(data)
    assert found.keys() == {"Cluster", "Instance"}
    for one in found.values():
        assert (one["DeletionPolicy"], one["UpdateReplacePolicy"]) == ("Snapshot", "Snapshot")
        assert one["Properties"]["StorageEncrypted"] is True
        assert one["Properties"]["DeletionProtection"] == {"Ref": "DeletionProtection"}
        assert one["Properties"]["BackupRetentionPeriod"] == {"Ref": "BackupRetentionDays"}
    for one in of_type(data["Resources"], "AWS::RDS::DBInstance").values():
        assert one["Properties"]["PubliclyAccessible"] is False


def test_an_instance_grows_before_it_is_full(data: dict[str, Any]) -> None:
    parameters = data["Parameters"]
    properties = data["Resources"]["Instance"]["Properties"]
    assert (properties["AllocatedStorage"], properties["MaxAllocatedStorage"]) == (
        {"Ref": "AllocatedStorage"},
        {"Ref": "MaxAllocatedStorage"},
    )
    assert parameters["MaxAllocatedStorage"]["Default"] >= 1.26 * parameters["AllocatedStorage"]["Default"]


def test_a_zone_more_replaces_nothing_that_has_a_name(data: dict[str, Any], cache: dict[str, Any]) -> None:
    """CloudFormation refuses to, and then the whole update; other subnets are another cache and another proxy for AWS."""
    first_two = [{"Fn::Select": [index, {"Ref": "SubnetIds"}]} for index in (0, 1)]
    assert cache["Resources"]["Cache"]["Properties"]["SubnetIds"] == first_two
    assert data["Resources"]["Proxy"]["Properties"]["VpcSubnetIds"] == first_two
    assert "DBSubnetGroupName" not in data["Resources"]["SubnetGroup"]["Properties"]


def test_tls_is_forced(data: dict[str, Any]) -> None:
    resources = data["Resources"]
    groups = {
        **of_type(resources, "AWS::RDS::DBClusterParameterGroup"),
        **of_type(resources, "AWS::RDS::DBParameterGroup"),
    }
    assert [group["Properties"]["Parameters"]["rds.force_ssl"] for group in groups.values()] == ["1", "1"]
    used = [
        one["Properties"].get("DBClusterParameterGroupName") or one["Properties"]["DBParameterGroupName"]
        for one in databases(data).values()
    ]
    assert {name["Ref"] for name in used} == groups.keys()
    assert resources["Proxy"]["Properties"]["RequireTLS"] is True


def test_a_password_is_made_by_aws_and_read_from_its_secret(data: dict[str, Any], cache: dict[str, Any]) -> None:
    for one in databases(data).values():
        assert one["Properties"]["ManageMasterUserPassword"] is True
        assert "MasterUserPassword" not in one["Properties"]
    for template in (data, cache):
        assert not [name for name in template["Parameters"] if re.search("Password|Secret|Uri", name)]
    (user,) = of_type(cache["Resources"], "AWS::ElastiCache::User").values()
    reference = "{{resolve:secretsmanager:${Password}}}"
    assert user["Properties"]["AuthenticationMode"]["Passwords"] == [{"Fn::Sub": reference}]
    assert reference in cache["Resources"]["Address"]["Properties"]["SecretString"]["Fn::Sub"]
    assert "SecretString" not in cache["Resources"]["Password"]["Properties"]


@pytest.mark.parametrize(("name", "port"), [("data.yaml", 5432), ("cache.yaml", 6379)])
def test_only_the_functions_and_the_proxy_get_in(name: str, port: int) -> None:
    groups = of_type(load(INFRA / name)["Resources"], "AWS::EC2::SecurityGroup")
    for group in groups.values():
        rules = [
            rule["Fn::If"][1] if "Fn::If" in rule else rule for rule in group["Properties"]["SecurityGroupIngress"]
        ]
        for rule in rules:
            assert (rule["FromPort"], rule["ToPort"]) == (port, port)
            assert rule["SourceSecurityGroupId"]["Ref"] in {"FunctionSecurityGroupId", "ProxySecurityGroup"}
        assert [rule["CidrIp"] for rule in group["Properties"]["SecurityGroupEgress"]] == ["127.0.0.1/32"]


def test_the_proxy_reads_one_secret(data: dict[str, Any]) -> None:
    ((statement,),) = [
        policy["PolicyDocument"]["Statement"] for policy in data["Resources"]["ProxyRole"]["Properties"]["Policies"]
    ]
    assert statement["Action"] == "secretsmanager:GetSecretValue"
    assert statement["Resource"] == data["Outputs"]["SecretArn"]["Value"]
    assert "*" not in str(statement)


def test_both_say_what_the_functions_need(data: dict[str, Any], cache: dict[str, Any]) -> None:
    assert data["Outputs"].keys() >= {"SecretArn", "Host", "DirectHost", "PoolTimeoutSeconds"}
    assert cache["Outputs"].keys() >= {"SecretArn"}
    assert not of_type(cache["Resources"], "AWS::ElastiCache::ServerlessCache")["Cache"]["Properties"][
        "SnapshotRetentionLimit"
    ]


def test_a_database_that_pauses_closes_sessions_in_time(data: dict[str, Any]) -> None:
    parameters = data["Resources"]["ClusterParameters"]["Properties"]["Parameters"]
    when, then, otherwise = parameters["idle_session_timeout"]["Fn::If"]
    assert (when, otherwise) == ("Pauses", "0")
    assert 0 < int(then) / 1000 < data["Parameters"]["PauseAfterSeconds"]["MinValue"]
