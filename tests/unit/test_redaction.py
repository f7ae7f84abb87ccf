"""What is taken out of log lines and of errors, and what is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import fields

import pytest

from langgraph_serverless import redaction
from langgraph_serverless.addresses import Address
from langgraph_serverless.domain.run_errors import describe
from langgraph_serverless.function_runtime import FunctionRuntime, _json_line
from langgraph_serverless.redaction import conceal, conceal_environment, concealing_credentials, redacted
from langgraph_serverless.settings import Settings
from langgraph_serverless.telemetry import JsonFormatter, TextFormatter


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("_lasting", "_passing", "_known"):
        monkeypatch.setattr(redaction, name, ())
    return


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("connect to postgresql://me:hunter2@db/app failed", "connect to postgresql://me:***@db/app failed"),
        ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("https://me:hunter2@host, amqp://a:b@c", "https://me:***@host, amqp://a:***@c"),
        ("host=db password=hunter2 dbname=app", "host=db password=*** dbname=app"),
        ("password='hunter 2' user=me", "password=*** user=me"),
        ("postgresql:///app?password=hunter2&host=x", "postgresql:///app?password=***&host=x"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: Bearer ***"),
        ("http://127.0.0.1:8000/a@b and 10:30", "http://127.0.0.1:8000/a@b and 10:30"),
        ("the bearer of this", "the bearer of this"),
        ("password is wrong", "password is wrong"),
    ],
)
def test_what_looks_like_a_secret(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert json.loads(redacted(json.dumps({"said": text, "then": "'\"\\"}))) == {"said": shown, "then": "'\"\\"}


def test_a_secret_is_found_in_every_spelling() -> None:
    secret = 'p@ss/"wörd"\n:1'
    conceal(secret)
    for text in (secret, "p%40ss%2F%22w%C3%B6rd%22%0A%3A1", json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        assert "rd" not in redacted(f"it is {text}!"), text


def test_which_variables_are_secrets() -> None:
    shown = {
        "PATH": "/usr/local/bin:/usr/bin",
        "PWD": "/home/me/project",
        "DATABASE_URI_SECRET": "prod/database",
        "WEBHOOK_VARIABLES_SECRET": "prod/webhooks",
        "API_KEY_ARN": "arn:aws:secretsmanager:eu-west-1:1:secret:x",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "TOKEN_SECRET": "arn:aws:secretsmanager:eu-west-1:1:secret:y",
        "MAX_TOKENS": "100000000",
        "POSTGRES_PASSWORD": "postgres",
        "LANGGRAPH_CONFIG": "/srv/app/langgraph.json",
        "DATABASE_HOST": "database.internal",
    }
    hidden = {
        "OPENAI_API_KEY": "sk-0123456789",
        "LANGGRAPH_AES_KEY": "abcdef-key",
        "SOME_TOKEN": "token-abcdefgh",
        "DB_PASSWORD": "correct horse",
        "CELERY_BROKER": "amqp://me:rabbit-pass@mq",
        "WEBHOOK_VARIABLES": '{"LG_WEBHOOK_TOKEN": "webhook-value"}',
        "WEBHOOK_SIGNING_SECRETS": "whsec_AAAABBBBCCCC,whsec_DDDDEEEEFFFF",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-honeycomb-team=collector-key,x-other=another-key",
    }
    conceal_environment(shown | hidden)
    for value in shown.values():
        assert redacted(f"<{value}>") == f"<{value}>"
    words = ("sk-0123456789", "abcdef-key", "token-abcdefgh", "correct horse", "rabbit-pass", "webhook-value")
    for word in (*words, "whsec_DDDDEEEEFFFF", "collector-key", "another-key"):
        assert any(word in value for value in hidden.values())
        assert word not in redacted(f"<{word}>")


def test_every_secret_setting_is_concealed_and_in_no_representation() -> None:
    """By its variables' names, so that a new one is noticed here."""
    given = {
        "DATABASE_URI": "postgresql://me:secret-of-database@db/app",
        "REDIS_URI": "redis://:secret-of-redis@cache",
        "WEBHOOK_SIGNING_SECRETS": "whsec_" + "c2VjcmV0LW9m" * 3,
        "WEBHOOK_VARIABLES": '{"LG_WEBHOOK_A": "secret-of-webhooks"}',
        "LANGGRAPH_AES_KEY": "secret-of-the-aes-key-0123456789",
        "LANGGRAPH_AES_OLD_KEYS": "secret-of-an-old-key-01234567890,secret-of-another-key-1234567890",
    }
    secret = {
        setting.metadata["names"][-1] for setting in fields(Settings) if not setting.repr and setting.metadata["names"]
    }
    assert {name for name in secret if name.replace("_CUSTOM", "") not in given} <= {"POSTGRES_URI"}
    shown = repr(Settings.from_env(given))
    for word in (
        "database",
        "redis",
        "webhooks",
        "the-aes-key-0123456789",
        "an-old-key-01234567890",
        "another-key-1234567890",
    ):
        assert redacted(f"it is secret-of-{word}.") == "it is ***."
        assert f"secret-of-{word}" not in shown
    assert "c2VjcmV0LW9m" not in redacted("whsec_" + "c2VjcmV0LW9m" * 3) + shown


def test_lines_of_all_formatters() -> None:
    Settings.from_env({"DATABASE_URI": "postgresql://me:database-pass@db/app", "PARTNER_KEY": "partner-key-1"})
    error = RuntimeError("no partner-key-1 at database-pass")
    record = logging.getLogger().makeRecord(
        "x",
        40,
        "f",
        1,
        "refused: %s",
        ("partner-key-1",),
        (type(error), error, None),
        extra={"k": ["database-pass"]},
    )
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(record)
        assert "refused: ***" in line
        assert "partner-key" not in line
        assert "database-pass" not in line
    assert json.loads(_json_line({"message": "partner-key-1", "at": object})) == {"message": "***", "at": str(object)}


def test_what_a_request_has_come_with() -> None:
    headers = [
        (b"authorization", b"Bearer opaque-token-1"),
        (b"cookie", b"a=1; session=cookie-value-1; theme=dark"),
        (b"x-api-key", b"api-key-value-1"),
        (b"x-other", b"other-value-1"),
    ]
    said = "opaque-token-1 cookie-value-1 api-key-value-1 other-value-1 dark"
    with concealing_credentials(headers):
        assert redacted(said) == "*** *** *** other-value-1 dark"
    assert redacted(said) == said


@pytest.mark.parametrize("sent", ['"message":', '","logger":"', "\\not-an-escape", 'a="opaque-token-1"'])
def test_no_credential_breaks_a_line_of_json(sent: str) -> None:
    record = logging.makeLogRecord({"name": "langgraph_serverless", "msg": f"at /{sent} \\{sent}"})
    with concealing_credentials([(b"x-api-key", sent.encode())]):
        line = JsonFormatter().format(record)
    assert {"timestamp", "level", "message"} <= json.loads(line).keys()
    assert "not-an-escape" not in line
    assert "opaque-token" not in line


def test_errors_of_runs() -> None:
    conceal_environment({"PARTNER_KEY": "partner-key-1"})
    assert describe(ValueError("no partner-key-1"), mask=True) == {"error": "ValueError", "message": "no ***"}


def test_a_password_that_was_read_again() -> None:
    refused = "postgresql://me:database-old@db/app"
    address = Address(refused, lambda: "postgresql://me:database-new@db/app")
    assert address.instead_of(refused) is not None
    assert redacted("is it database-new?") == "is it ***?"


def test_passwords_that_change_take_no_other_secret_from_memory() -> None:
    secret = "a-secret-that-is-longer-than-any-password"
    conceal_environment({"A_TOKEN": secret, "OTHER": "postgresql://me:database-other@db/app"})
    for number in range(1000):
        redaction.conceal_address(f"postgresql://me:database-{number}@db/app")
    assert redacted(f"{secret} database-other database-999 database-0") == "*** *** *** database-0"


def test_no_text_is_slow() -> None:
    """Twice the text takes twice the time at most; four times is far from what a quadratic pattern would take."""
    for piece in ("://", "://a:", "://a:b", "password='", "bearer ", "password=", "://:"):
        assert redacted(piece * 20_000)


def test_lines_of_functions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Powertools writes these, with tracebacks and their frames in fields of its own."""
    ours = logging.getLogger("langgraph_serverless")
    monkeypatch.setattr(ours, "handlers", ours.handlers[:])
    monkeypatch.setattr(ours, "level", ours.level)
    monkeypatch.setattr(ours, "propagate", ours.propagate)
    secret = "database-pass-of-functions"
    runtime = FunctionRuntime(
        "runs", {"DATABASE_URI": f"postgresql://me:{secret}@127.0.0.1:1/x", "A_TOKEN": "token-of-a"}
    )
    try:
        error = RuntimeError(f"cannot reach {secret}")
        runtime.logger.error("refused: %s", "token-of-a", exc_info=error, extra={"given": {"uri": f"x://y:{secret}@z"}})
    finally:
        runtime.close()
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "refused" in line]
    assert line["message"] == "refused: ***"
    assert "cannot reach ***" in line["exception"]
    assert secret not in str(line)
