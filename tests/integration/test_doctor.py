"""``langgraph-serverless doctor``: finds what is broken, names it, says how to mend it, and never shows a password."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result

from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres
from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey
from langgraph_serverless.cli.main import main
from langgraph_serverless.persistence import migrate

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"


@pytest.fixture
def own_database(databases: Any) -> Iterator[str]:
    uri = databases.create()
    yield uri
    databases.drop(uri)


def examine(*options: str, config: Path = PROJECT, **environ: str) -> Result:
    given = {"DATABASE_URI": None, "REDIS_URI": None, **environ}
    return CliRunner().invoke(main, ["doctor", "--config", str(config), *options], env=given)


def findings(result: Result, level: str) -> list[dict[str, Any]]:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return [finding for finding in json.loads(result.stdout)["findings"] if finding["level"] == level]


def test_a_healthy_deployment(own_database: str, redis_uri: str) -> None:
    result = examine(DATABASE_URI=own_database, REDIS_URI=redis_uri)
    assert result.exit_code == 0, result.output
    for said in ("All graphs load", "migrations are applied", "15 of 15 invariants hold", "No problems found"):
        assert said in result.stdout


def test_every_key_of_the_project_with_what_it_does(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("def graph(): ...\n")
    config = tmp_path / "langgraph.json"
    document = {
        "$schema": "./langgraph.schema.json",
        "graphs": {"agent": "./agent.py:graph"},
        "env": {"LG_SECRET": "canary"},
        "store": {"ttl": {"default_ttl": 5, "defualt": 1}},
        "api_version": "0.8",
    }
    config.write_text(json.dumps(document))
    result = examine("--json", "--data-dir", str(tmp_path / "data"), config=config, BG_JOB_ISOLATED_LOOPS="true")
    assert "canary" not in result.output
    said = {finding["says"]: finding for finding in json.loads(result.stdout)["findings"]}
    taken = {path: does for row in said["langgraph.json: 6 keys are taken."]["rows"] for path, does in row.items()}
    assert list(taken) == ["graphs", "graphs.*", "env", "store", "store.ttl", "store.ttl.default_ttl"]
    assert taken["store.ttl.default_ttl"] == "Minutes; null: for ever."
    assert said["langgraph.json: 'store.ttl.defualt' is not known and is ignored."]["do"].endswith(
        "'store.ttl.default_ttl'?"
    )
    assert any(text.startswith("langgraph.json: 'api_version' has no effect. Names a version") for text in said)
    assert any(text.startswith("BG_JOB_ISOLATED_LOOPS has no effect: ") for text in said)
    config.write_text(json.dumps({**document, "checkpointer": {"path": "./agent.py:saver"}}))
    refused = findings(examine("--json", "--data-dir", str(tmp_path / "data"), config=config), "problem")
    assert "checkpointer.path is not supported" in refused[0]["says"]


def test_a_manifest_of_another_state_of_the_project_is_noticed(tmp_path: Path) -> None:
    project, manifest = tmp_path / "project", tmp_path / "manifest.json"
    shutil.copytree(PROJECT.parent, project, ignore=shutil.ignore_patterns("__pycache__"))
    config = project / "langgraph.json"
    built = CliRunner().invoke(main, ["manifest", "--config", str(config), "--output", str(manifest)])
    assert built.exit_code == 0, built.output

    def said() -> tuple[str, str]:
        result = examine("--json", "--data-dir", str(tmp_path), config=config, LANGGRAPH_MANIFEST=str(manifest))
        [finding] = [finding for finding in json.loads(result.stdout)["findings"] if finding["area"] == "manifest"]
        return finding["level"], finding["says"]

    assert said()[0] == "ok"
    assert "langgraph 1." in said()[1]
    (project / "prompt.txt").write_text("Be brief.")
    assert said() == ("problem", f"{manifest} describes another state of the project than {config}.")
    (project / "prompt.txt").unlink()
    manifest.write_text(manifest.read_text().replace('"slow_steps"', '"other_steps"'))
    assert said() == ("problem", f"Somebody has changed {manifest} since it was built.")
    manifest.write_text("{")
    assert "cannot be read" in said()[1]


def test_what_is_broken_is_named_with_what_mends_it(own_database: str) -> None:
    thread, other, run, cron, webhook = (uuid.uuid4() for _ in range(5))
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO lgs.thread (thread_id, status) VALUES (%s, 'busy'), (%s, 'busy')", (thread, other)
        )
        connection.execute(
            "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, available_at)"
            " VALUES (%s, %s, %s, 'steps', '{}', now() - interval '1 hour')",
            (run, other, uuid.uuid4()),
        )
        connection.execute(
            "INSERT INTO lgs.cron (cron_id, assistant_id, schedule, payload, next_run_date)"
            " VALUES (%s, %s, '* * * * *', '{}', now() - interval '1 hour')",
            (cron, uuid.uuid4()),
        )
        connection.execute(
            "INSERT INTO lgs.outbox (outbox_id, run_id, thread_id, url, payload, dead_at, last_error)"
            " VALUES (%s, %s, %s, 'https://example.com/?secret', '{}', now(), 'answered 500')",
            (webhook, uuid.uuid4(), other),
        )
        result = examine("--json", DATABASE_URI=own_database)
        assert result.exit_code == 1
        assert "secret" not in result.output
        problems = {finding["area"]: finding for finding in findings(result, "problem")}
        queue = [row for finding in findings(result, "problem") for row in finding["rows"]]
        assert {str(run), str(cron), str(thread)} <= {value for row in queue for value in row.values()}
        assert str(webhook) in str(findings(result, "note"))
        broken = problems["invariants"]
        assert broken["says"] == "A thread is busy without a pending or running run. (invariant 1a)"
        assert [row["thread_id"] for row in broken["rows"]] == [str(thread)]
        for statement in broken["mend"]:
            connection.execute(statement)
        statuses = connection.execute("SELECT thread_id, status FROM lgs.thread").fetchall()
    assert dict(statuses) == {thread: "idle", other: "busy"}
    assert "invariants" not in {f["area"] for f in findings(examine("--json", DATABASE_URI=own_database), "problem")}


def test_migrations_that_are_missing_edited_or_newer(databases: Any, own_database: str) -> None:
    with psycopg.connect(own_database, autocommit=True) as connection:
        connection.execute("INSERT INTO lgs.migration (name, checksum) VALUES ('9999_post_later', '')")
        assert "9999_post_later" in str(findings(examine("--json", DATABASE_URI=own_database), "note"))
        connection.execute("UPDATE lgs.migration SET checksum = 'other' WHERE name = '0001_pre_core'")
        connection.execute("DELETE FROM lgs.migration WHERE name LIKE '0008%'")
    problems = [problem["says"] for problem in findings(examine("--json", DATABASE_URI=own_database), "problem")]
    assert problems == [
        "Migrations are missing: 0008_pre_outbox_ended.",
        "Migrations differ from what was applied: 0001_pre_core.",
    ]
    empty = databases.create(migrated=False)
    (problem,) = findings(examine("--json", DATABASE_URI=empty), "problem")
    databases.drop(empty)
    assert "has not been migrated" in problem["says"]
    assert "langgraph-serverless migrate" in problem["do"]


def test_keys_settings_and_addresses(tmp_path: Path) -> None:
    config = tmp_path / "langgraph.json"
    (tmp_path / "graphs.py").write_text(PROJECT.with_name("graphs.py").read_text())
    keys = {"graphs": {"steps": "./graphs.py:steps"}, "ui": {"a": "./a.tsx"}, "grahps": 1}
    config.write_text(json.dumps(keys))
    nowhere = f"postgresql://me:hunter2@/x?host={tmp_path}"
    result = examine("--json", config=config, DATABASE_URI=nowhere, N_JOBS_PER_WORKER="none")
    assert result.exit_code == 1
    assert "hunter2" not in result.output
    problems = [finding["says"] for finding in findings(result, "problem")]
    assert problems[0].startswith("N_JOBS_PER_WORKER is not valid")
    assert problems[1].startswith("Postgres at postgresql://me@/x")
    notes = [finding["says"] for finding in findings(result, "note")]
    assert any(note.startswith("langgraph.json: 'ui' has no effect. Components are not built") for note in notes)
    assert any("'grahps' is not known" in note for note in notes)
    (problem,) = findings(examine("--json", "--data-dir", str(tmp_path / "none")), "problem")
    assert problem["says"].startswith("There is no database")
    assert not (tmp_path / "none").exists()


async def test_a_laptops_data_folder_is_started_for_the_visit(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    uri = postgres.start()
    try:
        await migrate.migrate(uri)
        with psycopg.connect(uri) as connection:  # left behind: a note, as nothing serves it now
            connection.execute("INSERT INTO lgs.thread (thread_id, status) VALUES (gen_random_uuid(), 'busy')")
            connection.execute(
                "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, available_at) SELECT"
                " gen_random_uuid(), thread_id, thread_id, 'steps', '{}', now() - interval '1 hour' FROM lgs.thread"
            )
    finally:
        postgres.stop()
    valkey = EmbeddedValkey(tmp_path)
    client = redis.Redis.from_url(valkey.start())
    try:
        client.config_set("maxmemory-policy", "allkeys-lru")
        result = await _in_thread("--json", "--data-dir", str(tmp_path))
    finally:
        client.close()
        valkey.stop()
    (problem,) = findings(result, "problem")
    assert "allkeys-lru" in problem["says"]
    (note,) = findings(result, "note")
    assert note["says"].startswith("Runs have waited")
    assert postgres.visit() is None, "it was left running"


async def _in_thread(*options: str) -> Result:
    return await asyncio.to_thread(examine, *options)
