"""The user's project: what ``langgraph.json`` says, checked.

``read_project`` promises a frozen ``ProjectConfig`` in which every path is absolute, exists and lies under the project
root, or a one-sentence ``ProjectError`` that names the file and the key. ``env`` holds the values themselves, whether
the file gives them as a map or names a dotenv file.

Relies on: the file system. Never imports the user's code (``loader.py`` does) and never touches ``os.environ``: the
caller decides when ``apply_env`` happens. The sections ``store``, ``checkpointer``, ``http``, ``auth`` and
``webhooks`` are passed on as they are to whoever implements them; ``store_settings``, ``thread_ttl`` and ``webhook_rules`` are
what they say, checked. Each section has a module of its own (``*_section.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langgraph_serverless.domain.auth_settings import AuthSettings
from langgraph_serverless.domain.http_settings import HttpSettings
from langgraph_serverless.domain.store import StoreSettings
from langgraph_serverless.domain.threads import Ttl
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.auth_section import read_auth
from langgraph_serverless.execution.build_section import check_build, check_ui
from langgraph_serverless.execution.checkpointer_section import Serde, read_serde, read_thread_ttl
from langgraph_serverless.execution.config_keys import Effect
from langgraph_serverless.execution.config_table import TABLE
from langgraph_serverless.execution.dependencies_section import local_folders, read_dependencies
from langgraph_serverless.execution.encryption_section import read_encryption
from langgraph_serverless.execution.env_section import read_env
from langgraph_serverless.execution.graphs_section import GraphSpec, read_graphs
from langgraph_serverless.execution.http_section import read_http
from langgraph_serverless.execution.store_section import read_store
from langgraph_serverless.execution.targets import parse_target
from langgraph_serverless.redaction import conceal_environment

#: what would begin a line of its own where an error is one sentence
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


@dataclass(frozen=True, kw_only=True)
class ProjectConfig:
    """A read and checked ``langgraph.json``."""

    #: the folder of ``langgraph.json``; every relative path in it starts here
    root: Path
    config_path: Path
    graphs: Mapping[str, GraphSpec]
    #: folders that the project imports from
    local_dependencies: tuple[Path, ...] = ()
    #: ``dependencies`` as written, with pip requirements
    dependencies: tuple[str, ...] = ()
    #: what an image of the project has
    python_version: str | None = None
    #: not in ``repr``: it may hold secrets
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    store: Mapping[str, Any] | None = None
    checkpointer: Mapping[str, Any] | None = None
    http: HttpSettings = field(default_factory=HttpSettings)
    #: the section ``auth``, checked; None: nobody is asked who they are
    auth: AuthSettings | None = None
    webhooks: Mapping[str, Any] | None = field(default=None, repr=False)
    #: present keys that are known and have no effect here
    inactive_keys: tuple[str, ...] = ()
    #: the section ``store``, checked
    store_settings: StoreSettings = field(default_factory=StoreSettings)
    #: of threads that are made without one
    thread_ttl: Ttl | None = None
    #: classes that checkpoints may hold, besides those that schemas name
    serde: Serde = field(default_factory=Serde)
    #: the section ``webhooks``, and ``http.disable_webhooks``
    webhook_rules: WebhookRules = field(default_factory=WebhookRules)
    #: ``./file.py:name`` of the section ``priority``
    priority: str | None = None
    #: ``./file.py:name`` of the section ``encryption``
    encryption: str | None = None
    #: keys at any level that nobody knows, for a warning
    unknown_keys: tuple[str, ...] = ()

    def apply_env(self, environ: MutableMapping[str, str]) -> None:
        """Set the project's variables in `environ`; a variable that is already set wins. The log shows no secret of them."""
        conceal_environment(self.env)
        for name, value in self.env.items():
            environ.setdefault(name, value)


def read_project(config_path: Path) -> ProjectConfig:
    """Read and check the ``langgraph.json`` at `config_path`."""
    try:
        return _read_project(config_path)
    except ProjectError as error:
        # names of keys are in it, which may hold anything that JSON does
        raise ProjectError(str(error).translate(_CONTROL)) from error


def _read_project(config_path: Path) -> ProjectConfig:
    config_path = config_path.expanduser().resolve()
    raw = _read_json(config_path)
    root = config_path.parent
    dependencies = read_dependencies(raw, config_path)
    check_build(raw, config_path)
    check_ui(raw, config_path)
    store = _section(raw, "store", config_path)
    checkpointer = _section(raw, "checkpointer", config_path)
    http = _section(raw, "http", config_path)
    webhooks = _section(raw, "webhooks", config_path)
    return ProjectConfig(
        root=root,
        config_path=config_path,
        graphs=read_graphs(raw, config_path),
        local_dependencies=local_folders(dependencies, config_path),
        dependencies=dependencies,
        python_version=raw.get("python_version"),
        env=read_env(raw, config_path),
        store=store,
        store_settings=read_store(store, config_path),
        checkpointer=checkpointer,
        thread_ttl=read_thread_ttl(checkpointer, config_path),
        serde=read_serde(checkpointer, config_path),
        http=read_http(http, root, config_path),
        auth=read_auth(_section(raw, "auth", config_path), root, config_path),
        webhooks=webhooks,
        webhook_rules=_webhook_rules(webhooks, http or {}, config_path),
        priority=_priority(raw, root, config_path),
        encryption=read_encryption(_section(raw, "encryption", config_path), root, config_path),
        inactive_keys=_inactive(raw),
        unknown_keys=_unknown(raw),
    )


def _inactive(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys at the top that are known and do nothing here."""
    found = ((path, key) for path, key in TABLE.present(raw) if key is not None and raw.get(path) is not None)
    return tuple(path for path, key in found if key.effect is Effect.NOTHING and path != "$schema")


def _unknown(raw: Mapping[str, Any]) -> tuple[str, ...]:
    found = (path.split(".") for path, key in TABLE.present(raw) if key is None)
    return tuple(".".join(parts) for parts in sorted(found, key=lambda each: (len(each) > 1, each[0], len(each), each)))


def _read_json(config_path: Path) -> dict[str, Any]:
    if not config_path.is_file():
        raise ProjectError(f"The configuration file {config_path} does not exist.")
    try:
        raw = json.loads(config_path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ProjectError(f"{config_path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"{config_path} cannot be read: {error}.") from error
    if not isinstance(raw, dict):
        raise ProjectError(f"{config_path} must hold a JSON object with a 'graphs' key.")
    return raw


def _webhook_rules(section: Mapping[str, Any] | None, http: Mapping[str, Any], config_path: Path) -> WebhookRules:
    disabled = http.get("disable_webhooks", False)
    if not isinstance(disabled, bool):
        raise ProjectError(f"{config_path}: http.disable_webhooks must be true or false.")
    try:
        return WebhookRules.of(section, disabled=disabled)
    except ProjectError as error:
        raise ProjectError(f"{config_path}: {error}") from error


def _priority(raw: Mapping[str, Any], root: Path, config_path: Path) -> str | None:
    section = _section(raw, "priority", config_path)
    if not section:
        return None
    key, target = f"{config_path}: priority.path", section.get("path")
    if not isinstance(target, str):
        raise ProjectError(f"{key} must be './file.py:name' of a langgraph_sdk.Priority.")
    parse_target(root, target, key=key)
    return target


def _section(raw: Mapping[str, Any], name: str, config_path: Path) -> Mapping[str, Any] | None:
    section = raw.get(name)
    if section is not None and not isinstance(section, dict):
        raise ProjectError(f"{config_path}: '{name}' must be an object.")
    return section
