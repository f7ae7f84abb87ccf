"""Where webhooks may go: a corpus of URLs that lead inward, and the rest of the rules."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from langgraph_serverless.domain.webhooks import (
    MOST_TRIES,
    RETRY_AFTER,
    AllowedHosts,
    for_receivers,
    parse_secret,
    parse_url,
    retry_delay,
    signature,
)
from langgraph_serverless.errors import InvalidInputError, SettingsError
from langgraph_serverless.settings import Settings
from langgraph_serverless.webhooks.addresses import AddressBook

PUBLIC = "93.184.216.34"
INWARD = [
    # loopback
    *("127.0.0.1", "127.0.0.1:80", "127.1", "127.0.1", "127.255.255.254", "localhost", "LOCALHOST", "localhost."),
    *("app.localhost", "[::1]", "[0:0:0:0:0:0:0:1]", "user:password@127.0.0.1", "93.184.216.34@127.0.0.1"),
    # other spellings of it
    *("2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.0.0.1."),
    *("\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1", "127\u30020\u30020\u30021"),
    # inside IPv6
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:10.0.0.8]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[64:ff9b:1::a00:8]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::]", "[::ffff:0:127.0.0.1]"),
    # private, link-local, metadata, carrier-grade NAT
    *("10.0.0.8", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1"),
    *("100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "[fc00::1]", "[fe80::1]", "[fec0::1]", "10.8"),
    # addresses of nobody and of everybody
    *("0.0.0.0", "0", "[::]", "255.255.255.255", "224.0.0.1", "[ff02::1]", "192.0.2.1", "198.51.100.1", "203.0.113.1"),
    *("198.18.0.1", "240.0.0.1", "192.0.0.1", "[2001:db8::1]", "[100::1]"),
]
MALFORMED = [
    *(
        "example.com",
        "x",
        "http://",
        "http:///path",
        "//example.com/x",
        "/internal",
        "ftp://example.com/",
        "mailto:a@b.c",
    ),
    *("file:///etc/passwd", "gopher://127.0.0.1:6379/_FLUSHALL", "http://exa mple.com/", "http://example.com/a b"),
    *("http://example.com/\r\nX-Injected: 1", "http://example.com\\@127.0.0.1/", "http://example.com:99999/"),
    *(
        "http://example.com:x/",
        "http://[::1/",
        "http://[v1.x]/",
        "http://exa%6dple.com/",
        "http://-x.com/",
        "http://[2606:4700::1%25eth0]/",
        "http://[2606:4700::1%é]/",
        "http://a..b/",
    ),
    *(
        "https://example.com/\x00",
        "javascript:alert(1)",
        f"https://example.com/{'a' * 9000}",
        "http://" + "a" * 64 + ".com",
    ),
]


async def public(host: str, port: int) -> Sequence[str]:
    return [PUBLIC]


def check(url: str, *allowed: str, addresses: Sequence[str] = (PUBLIC,)) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    asyncio.run(AddressBook(AllowedHosts.parse(allowed), resolver=resolve).check(url))


def test_the_corpus_is_large_enough() -> None:
    assert len(set(INWARD)) >= 60


@pytest.mark.parametrize("host", INWARD)
def test_no_spelling_of_an_inward_address_passes(host: str) -> None:
    for scheme in ("http", "https"):
        with pytest.raises(InvalidInputError, match=r"(?i)^(webhook host blocked|invalid webhook)"):
            check(f"{scheme}://{host}/x")


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_webhook_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"(?i)webhook"):
        check(url)


@pytest.mark.parametrize("inward", ["10.0.0.8", "::1", "fe80::1%eth0", "::ffff:169.254.169.254", "100.64.0.1"])
def test_a_name_with_one_inward_address_is_refused(inward: str) -> None:
    with pytest.raises(InvalidInputError, match="blocked"):
        check("https://example.com/", addresses=[PUBLIC, inward])


def test_a_name_that_nobody_knows_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="DNS resolution failed"):
        check("https://example.com/", addresses=[])


def test_texts_are_those_of_the_official_server() -> None:
    for url, text in {
        "http://127.0.0.1:9/": "Webhook host blocked: loopback IP range",
        "http://0x7f.1/": "Webhook host blocked: loopback IP range",
        "http://localhost:9/": "Webhook host blocked: localhost address",
        "http://[::1]/": "Webhook host blocked: blocked IP range",
        "http://169.254.169.254/": "Webhook host blocked: blocked IP range",
        "ftp://example.com/": "Webhook host blocked: scheme 'ftp' not allowed",
        "example.com": "Invalid webhook hostname ''",
        "http://": "Invalid webhook hostname ''",
        f"http://example.com/{'a' * 9000}": "Webhook URL too long",
    }.items():
        with pytest.raises(InvalidInputError) as raised:
            check(url)
        assert str(raised.value) == text


def test_a_url_is_taken_apart_for_the_request() -> None:
    target = parse_url("HTTPS://us%40er:p%3Aw@Bücher.Example:8443/a/ü?q=1&x=[y]#part")
    assert (target.secure, target.host, target.port) == (True, "xn--bcher-kva.example", 8443)
    assert target.path == "/a/%C3%BC?q=1&x=%5By%5D"
    assert target.authority == "xn--bcher-kva.example:8443"
    assert target.authorization == f"Basic {base64.b64encode(b'us@er:p:w').decode()}"
    assert parse_url("https://example.com").path == "/"
    assert parse_url("https://example.com?a=1").path == "/?a=1"
    assert parse_url("http://[2606:2800:220:1::1]/").authority == "[2606:2800:220:1::1]"
    for url in (
        "https://example.com/hook",
        f"http://{PUBLIC}/",
        "http://example.com:8080/%41?x=%20",
        "https://a_b.example/",
    ):
        check(url)


def test_what_an_operator_lists_is_exempt_and_nothing_else() -> None:
    check("http://127.0.0.1:3000/", "127.0.0.1")
    check("http://10.1.2.3/", "10.0.0.0/8")
    check("http://[::1]/", "::1")
    check("http://localhost:3000/", "localhost", addresses=["127.0.0.1"])
    check("http://hooks.corp/", "hooks.corp", addresses=["10.0.0.9"])
    check("http://other.corp/", "10.0.0.0/24", addresses=["10.0.0.9"])
    for url, allowed in (
        ("http://10.1.2.3/", "10.0.0.0/24"),
        ("http://sub.hooks.corp/", "hooks.corp"),
        ("http://169.254.169.254/", "10.0.0.0/8"),
        ("http://localhost/", "127.0.0.1"),
    ):
        with pytest.raises(InvalidInputError):
            check(url, allowed, addresses=["10.9.9.9"])


def test_tries_are_spread_over_about_a_day() -> None:
    assert [retry_delay(tries, 0) for tries in range(1, MOST_TRIES)] == list(RETRY_AFTER)
    assert retry_delay(MOST_TRIES, 0) is None
    assert retry_delay(1, 1) == pytest.approx(RETRY_AFTER[0] * 1.2)
    assert 22 <= sum(RETRY_AFTER) / 3600 <= 26
    assert list(RETRY_AFTER) == sorted(RETRY_AFTER)


def test_a_signature_is_that_of_the_standard() -> None:
    # the example of the Standard Webhooks specification
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert (
        signature([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
    assert signature([], "id", 1, body) is None


def test_receivers_learn_no_more_of_a_user_than_every_user_has() -> None:
    user = {"identity": "alice", "permissions": ["a"], "token": "hunter2", "nested": {"token": "hunter2"}}
    body = {
        "kwargs": {"config": {"configurable": {"langgraph_auth_user": user, "x": "é"}}},
        "values": {"n": 10**30, "f": 0.1},
    }
    for spelled in (json.dumps(body), json.dumps(body, separators=(",", ":"))):
        told = json.loads(for_receivers(spelled))
        assert told["kwargs"]["config"]["configurable"].pop("langgraph_auth_user") == {
            "identity": "alice",
            "permissions": ["a"],
        }
        assert (told["kwargs"]["config"]["configurable"], told["values"]) == ({"x": "é"}, body["values"])
    # nothing else is touched, not even the spelling
    for other in (
        '{"kwargs":{"config":{"configurable":{"langgraph_auth_user":null}}},"a" : 1.50}',
        '{"langgraph_auth_user": {"a": 1}}',
        "{}",
    ):
        assert for_receivers(other) == other


def test_settings_report_wrong_values_without_showing_secrets() -> None:
    environ = {"DATABASE_URI": "postgresql://x/y", "WEBHOOK_ALLOWED_HOSTS": "a/b", "WEBHOOK_SIGNING_SECRETS": "hunter2"}
    with pytest.raises(SettingsError) as raised:
        Settings.from_env(environ)
    assert "WEBHOOK_ALLOWED_HOSTS" in str(raised.value)
    assert "WEBHOOK_SIGNING_SECRETS" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    settings = Settings.from_env(
        environ
        | {"WEBHOOK_ALLOWED_HOSTS": "127.0.0.1, ::1 ,hooks.corp", "WEBHOOK_SIGNING_SECRETS": f"whsec_{'A' * 32}"}
    )
    assert settings.webhook_allowed_hosts == ("127.0.0.1", "::1", "hooks.corp")
    assert AllowedHosts.parse(settings.webhook_allowed_hosts).address(ipaddress.ip_address("::1"))
    assert settings.webhook_signing_secrets == (bytes(24),)


async def test_names_are_looked_up_while_nodes_hold_every_thread() -> None:
    over = threading.Event()
    loop = asyncio.get_running_loop()
    before = loop._default_executor  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as nodes:
        loop.set_default_executor(nodes)
        blocked = loop.run_in_executor(None, over.wait)
        try:
            async with asyncio.timeout(10):
                await AddressBook(AllowedHosts.parse(["localhost"])).check("http://localhost:9/hook")
        finally:
            over.set()
            await blocked
            loop._default_executor = before  # type: ignore[attr-defined]
