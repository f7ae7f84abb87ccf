"""The section ``webhooks``: what it may say, which URLs it lets through, and that no header breaks out of its line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from langgraph_serverless.cli.main import main
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.domain.manifest import Manifest
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.domain.webhooks import LONGEST_URL, AllowedHosts
from langgraph_serverless.errors import DeliveryError, InvalidInputError, ProjectError, SettingsError
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.settings import Settings
from langgraph_serverless.webhooks.addresses import AddressBook
from langgraph_serverless.webhooks.sender import WebhookSender

ENVIRON = {"DATABASE_URI": "postgresql://nowhere/none"}
FULL: dict[str, Any] = {
    "env_prefix": "HOOK_",
    "headers": {"X-Token": "pre-${{ env.HOOK_TOKEN }}", "X-Two": "${{env.HOOK_A}}/${{ env.HOOK_B }}"},
    "url": {
        "require_https": True,
        "allowed_domains": ["hooks.example.com", "*.Corp.example", "93.184.216.34", "bücher.example"],
        "allowed_ports": [443, 8443],
        "max_url_length": 60,
        "disable_loopback": False,
    },
}


def rules(url: dict[str, Any] | None = None, **section: Any) -> WebhookRules:
    return WebhookRules.of({**section, **({} if url is None else {"url": url})})


def project(folder: Path, **sections: Any) -> Path:
    (folder / "g.py").write_text("")
    path = folder / "langgraph.json"
    path.write_text(json.dumps({"dependencies": ["."], "graphs": {"g": "./g.py:g"}, **sections}))
    return path


# -- the section ------------------------------------------------------------------------------------------------------


def test_a_section_survives_the_manifest() -> None:
    for each in (WebhookRules(), WebhookRules.of({}), WebhookRules.of(FULL, disabled=True)):
        manifest = Manifest.of({}, webhooks=each)
        assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))).webhooks == each
    assert len({Manifest.of({}, webhooks=each).hash for each in (WebhookRules(), WebhookRules.of(FULL))}) == 2


def test_https_is_asked_for_once_there_is_a_section(tmp_path: Path) -> None:
    assert not read_project(project(tmp_path)).webhook_rules.require_https
    assert not read_project(project(tmp_path, webhooks=None)).webhook_rules.require_https
    assert read_project(project(tmp_path, webhooks={})).webhook_rules.require_https
    assert not read_project(project(tmp_path, webhooks={"url": {"require_https": False}})).webhook_rules.require_https


def test_only_what_does_nothing_is_called_so(tmp_path: Path) -> None:
    config = read_project(
        project(tmp_path, webhooks={"urls": 1, "url": {"ports": []}}, http={"disable_webhooks": True})
    )
    assert config.inactive_keys == ()
    assert config.unknown_keys == ("webhooks.urls", "webhooks.url.ports")
    assert config.webhook_rules.disabled


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"url": []}, "webhooks.url"),
        ({"url": {"require_https": "yes"}}, "webhooks.url.require_https"),
        ({"url": {"disable_loopback": None}}, "webhooks.url.disable_loopback"),
        ({"url": {"allowed_domains": "example.com"}}, "webhooks.url.allowed_domains"),
        ({"url": {"allowed_domains": ["*"]}}, "webhooks.url.allowed_domains"),
        ({"url": {"allowed_domains": ["a.*.com"]}}, "webhooks.url.allowed_domains"),
        ({"url": {"allowed_domains": ["https://a.com"]}}, "webhooks.url.allowed_domains"),
        ({"url": {"allowed_domains": [7]}}, "webhooks.url.allowed_domains"),
        ({"url": {"allowed_ports": [0]}}, "webhooks.url.allowed_ports"),
        ({"url": {"allowed_ports": [True]}}, "webhooks.url.allowed_ports"),
        ({"url": {"allowed_ports": ["443"]}}, "webhooks.url.allowed_ports"),
        ({"url": {"max_url_length": 0}}, "webhooks.url.max_url_length"),
        ({"url": {"max_url_length": LONGEST_URL + 1}}, "webhooks.url.max_url_length"),
        ({"env_prefix": 1}, "webhooks.env_prefix"),
        ({"headers": []}, "webhooks.headers"),
        ({"headers": {"X-A": 1}}, "webhooks.headers.X-A"),
        ({"headers": {"X-A": "a", "x-a": "b"}}, "webhooks.headers.x-a"),
        (
            {"headers": {"X-A": "${{ env.PATH }}"}},
            "webhooks.headers.X-A: the variable PATH must begin with LG_WEBHOOK_",
        ),
        ({"headers": {"X-A": "${{ secrets.X }}"}}, "webhooks.headers.X-A: templates"),
    ],
)
def test_a_wrong_section_is_refused_by_its_key(section: dict[str, Any], key: str, tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as raised:
        read_project(project(tmp_path, webhooks=section))
    assert f"langgraph.json: {key}" in str(raised.value)
    with pytest.raises(SettingsError, match=r"LANGGRAPH_WEBHOOKS is not valid: webhooks\."):
        Settings.from_env(ENVIRON | {"LANGGRAPH_WEBHOOKS": json.dumps(section)})


# -- URLs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://hooks.example.com/", "Webhook must use https"),
        ("https://example.com/", "Webhook domain not allowed"),
        ("https://a.hooks.example.com/", "Webhook domain not allowed"),
        ("https://corp.example/", "Webhook domain not allowed"),
        ("https://.corp.example/", "Invalid webhook hostname '.corp.example'"),
        ("https://evilcorp.example/", "Webhook domain not allowed"),
        ("https://hooks.example.com.evil.net/", "Webhook domain not allowed"),
        ("https://hooks.example.com@evil.net/", "Webhook domain not allowed"),
        ("https://hooks.example.com:80/", "Webhook port 80 not allowed"),
        (f"https://hooks.example.com/{'a' * 60}", "Webhook URL too long"),
        ("//hooks.example.com/", "Loopback webhooks (relative URLs and localhost) are disabled"),
        ("/path", "Webhook URL is relative, and WEBHOOK_BASE_URL does not say to which address"),
    ],
)
def test_a_url_against_the_policy_is_refused_with_the_official_text(url: str, text: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        WebhookRules.of(FULL).target(url)
    assert str(raised.value).startswith(text)


def test_a_url_within_the_policy_passes() -> None:
    for url in (
        "https://hooks.example.com/x",
        "https://HOOKS.example.com:8443/",
        "https://a.corp.example/",
        "https://a.b.corp.example/",
        "https://93.184.216.34/",
        "https://xn--bcher-kva.example/",
    ):
        assert WebhookRules.of(FULL).target(url).secure


def test_a_domain_that_is_allowed_must_be_public_all_the_same() -> None:
    async def inward(host: str, port: int) -> Sequence[str]:
        return ["10.0.0.8"]

    book = AddressBook(AllowedHosts(), rules=WebhookRules.of(FULL), resolver=inward)
    with pytest.raises(InvalidInputError, match="blocked IP range"):
        asyncio.run(book.check("https://hooks.example.com/"))


def test_a_path_of_this_server_goes_nowhere_else() -> None:
    loose = rules(url={"disable_loopback": False})
    book = AddressBook(AllowedHosts(), rules=loose, own_address="http://127.0.0.1:8000/v1/")
    target = book.target("/custom?a=1")
    assert (target.host, target.port, target.path) == ("127.0.0.1", 8000, "/v1/custom?a=1")
    assert asyncio.run(book.addresses(target)) == ["127.0.0.1"]
    assert book.target("/@evil.net:80/").host == "127.0.0.1"
    for url in ("//evil.net/", "/\\evil.net/", "/a\r\nX: 1"):
        with pytest.raises(InvalidInputError):
            book.target(url)
    with pytest.raises(InvalidInputError, match="loopback IP range"):
        asyncio.run(book.check("https://127.0.0.1:8000/custom"))
    for strict in (WebhookRules(), rules()):
        with pytest.raises(InvalidInputError, match="Loopback webhooks"):
            strict.target("/custom", "http://127.0.0.1:8000")


def test_disabled_webhooks_are_accepted_and_never_sent() -> None:
    async def nobody(host: str, port: int) -> Sequence[str]:
        raise AssertionError("looked up")

    book = AddressBook(AllowedHosts(), rules=WebhookRules(disabled=True), resolver=nobody)
    asyncio.run(book.check("http://hooks.example.com/"))
    with pytest.raises(DeliveryError, match="disabled") as raised:
        asyncio.run(WebhookSender(book).send("http://hooks.example.com/", "id", b"{}"))
    assert raised.value.final


# -- headers ----------------------------------------------------------------------------------------------------------


def test_variables_are_put_into_headers() -> None:
    values = {"HOOK_TOKEN": "tok", "HOOK_A": "a b", "HOOK_B": "", "OTHER": "x"}
    assert WebhookRules.of(FULL).headers(values) == {"X-Token": "pre-tok", "X-Two": "a b/"}
    assert WebhookRules.of(FULL).variables == {"HOOK_TOKEN", "HOOK_A", "HOOK_B"}


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\r\nX-Injected: 1", "\x0b", "\x7f", "\x85", "\u2028", "é"])
def test_no_value_breaks_out_of_its_header(character: str) -> None:
    with pytest.raises(ProjectError, match="has no line breaks") as literal:
        rules(headers={"X-Secret": f"hunter2{character}"})
    with pytest.raises(ProjectError, match="has no line breaks") as variable:
        rules(headers={"X-Secret": "${{ env.LG_WEBHOOK_S }}"}).headers({"LG_WEBHOOK_S": f"hunter2{character}"})
    assert "hunter2" not in f"{literal.value} {variable.value}"


@pytest.mark.parametrize(
    "name",
    ["", "X A", "X:A", "X\r\nA", "X\0", "É", "Host", "content-length", "Transfer-Encoding", "Connection", "Webhook-Id"],
)
def test_no_name_breaks_the_request(name: str) -> None:
    with pytest.raises(ProjectError, match=r"webhooks\.headers"):
        rules(headers={name: "x"})


def test_what_the_operator_says_is_sent_once() -> None:
    book = AddressBook(AllowedHosts())
    sender = WebhookSender(book, headers={"user-agent": "mine", "X-Token": "tok", "authorization": "Bearer x"})
    sent = sender._headers(book.target("https://a:b@hooks.example.com/"), "id", b"{}", {})
    assert sorted(name.lower() for name in sent) == sorted({name.lower() for name in sent})
    assert (sent["user-agent"], sent["X-Token"], sent["authorization"]) == ("mine", "tok", "Bearer x")
    assert sent["Content-Type"] == "application/json"


def test_a_missing_variable_is_a_sentence_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = {"headers": {"X-A": "${{ env.LG_WEBHOOK_A }}"}}
    path = project(tmp_path, webhooks=section, env={"LG_WEBHOOK_A": "from the project"})
    manifest = Manifest.of({}, webhooks=read_project(path).webhook_rules)
    settings = Settings.from_env(ENVIRON)

    def sent(container: ApiContainer) -> Any:
        return container.webhooks._sender._static  # type: ignore[attr-defined]

    for container in (ApiContainer(settings, manifest=manifest), SchedulerContainer(settings, manifest=manifest)):
        with pytest.raises(ProjectError, match=r"X-A: the environment variable LG_WEBHOOK_A is not set\.$"):
            sent(container)
    on_lambda = settings.replace(config_path=path)  # the scheduler loads no graphs, but it knows the project's env
    assert sent(SchedulerContainer(on_lambda, manifest=manifest)) == {"X-A": "from the project"}
    monkeypatch.setenv("LG_WEBHOOK_A", "from the environment")
    assert sent(SchedulerContainer(on_lambda, manifest=manifest)) == {"X-A": "from the environment"}
    secret = Settings.from_env(ENVIRON | {"WEBHOOK_VARIABLES": '{"LG_WEBHOOK_A": "from a secret"}'})
    assert sent(ApiContainer(secret, manifest=manifest)) == {"X-A": "from a secret"}
    assert "from a secret" not in repr(secret)


def test_the_environments_section_replaces_the_projects() -> None:
    manifest = Manifest.of({}, webhooks=WebhookRules.of(FULL, disabled=True))
    settings = Settings.from_env(ENVIRON | {"LANGGRAPH_WEBHOOKS": '{"url": {"max_url_length": 9}}'})
    found = ApiContainer(settings, manifest=manifest).webhook_rules
    assert (found.max_url_length, found.header_templates, found.disabled) == (9, {}, True)


@pytest.mark.parametrize("name", ["LANGGRAPH_WEBHOOKS", "WEBHOOK_VARIABLES"])
@pytest.mark.parametrize("value", ["{hunter2", '["hunter2"]'])
def test_json_that_is_none_is_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not valid: must be a JSON object") as raised:
        Settings.from_env(ENVIRON | {name: value})
    assert "hunter2" not in str(raised.value)


def test_replay_wants_to_know_which() -> None:
    for arguments in ([], ["--all", "01a2032b-5e0b-76de-83bc-8be7096d078a"]):
        done = CliRunner().invoke(main, ["webhooks", "replay", *arguments])
        assert (done.exit_code, "Give either ids or --all." in done.output) == (2, True)
