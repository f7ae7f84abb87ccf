"""Writes docs/guides/settings.md from ``langgraph_serverless.settings.Settings``.

    python docs/generate_settings.py           write it
    python docs/generate_settings.py --check   exit code 1 if it is not current

Names, defaults and meanings come from the class; only the prose around the table is here. tests/unit/test_docs.py checks.
"""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from langgraph_serverless.settings import Settings

PAGE = Path(__file__).parent / "guides" / "settings.md"

BEFORE = """\
# Settings

<!-- Written by docs/generate_settings.py from core/langgraph_serverless/settings.py. Do not edit by hand. -->

Everything that can be set is an environment variable, read once when a process starts. Several wrong values are reported
together, by name and without the value. Where a row names several variables, the first that is set and not empty counts.
Sizes are in bytes; times in seconds, whatever the variable's name.
"""

AFTER = """
## Where the values come from

* **On a laptop** (`langgraph-serverless dev`) from the environment of the command, then from `env` in `langgraph.json`: a
  variable that is set already wins. The command itself sets the databases' addresses, `N_JOBS_PER_WORKER` (from
  `--n-jobs-per-worker`), with `--debug` the log level, and, unless you do, a `BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS` of 2.
* **On Lambda** from the function's configuration, which [template.yaml](../../template.yaml) writes. `DATABASE_URI` may be
  replaced by `DATABASE_URI_SECRET` (name or ARN of a secret in Secrets Manager) or `DATABASE_URI_PARAMETER` (name of a
  parameter in SSM, decrypted), `REDIS_URI`, `WEBHOOK_SIGNING_SECRETS` and `WEBHOOK_VARIABLES` likewise. They are read at cold start; the two
  addresses once more when their password is refused. An address in there is a URI, or a JSON document of `username`, `password`, `host`, `port` and `dbname`
  as RDS writes it. `DATABASE_HOST` (a host, or host and port) wins over the host in either. `LANGGRAPH_CONFIG` and `LANGGRAPH_MANIFEST` are relative to the bundle, and logs are always JSON.

**Webhooks** go to public addresses only, whatever their names resolve to when they are sent: a client names the URL, and it
must not reach your network through this server. A receiver of your own on a laptop, or inside your network, is listed in
`WEBHOOK_ALLOWED_HOSTS`: `localhost,127.0.0.1`, `10.20.0.0/16`, `hooks.internal.example`. A listed name may resolve to
anything. Signatures are those of [Standard Webhooks](https://www.standardwebhooks.com); with several secrets each webhook
carries several, so that a receiver can change its own at leisure. More in [webhooks.md](webhooks.md).

Two rules join variables: `DATABASE_URI` (or one of its other names) must be set, and `HEARTBEAT_INTERVAL_SECS` must be at
most half of `LEASE_DURATION_SECS`.
"""


def default_of(value: Any) -> str:
    """A default as one would write it into the environment."""
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def page() -> str:
    """The whole page."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for setting in fields(Settings):
        if not setting.metadata["names"]:
            continue  # made by the process itself
        names = ", ".join(f"`{name}`" for name in setting.metadata["names"])
        rows.append(f"| {names} | {default_of(setting.default)} | {setting.metadata['doc']} |")
    return "\n".join([BEFORE, *rows, AFTER])


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE.name} is not current: run python docs/generate_settings.py")
