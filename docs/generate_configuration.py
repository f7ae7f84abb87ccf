"""Writes docs/reference/configuration.md and docs/reference/langgraph.schema.json from the table of langgraph.json's keys.

    python docs/generate_configuration.py           write them
    python docs/generate_configuration.py --check   exit code 1 if they are not current

What a key may hold and does comes from ``langgraph_serverless.execution.config_table``; the test that shows it, and the prose, are
here. tests/unit/test_docs.py checks that each key has a test which is there.
"""

import json
import sys
from pathlib import Path

from langgraph_serverless.execution.config_keys import Effect, Key
from langgraph_serverless.execution.config_table import TABLE
from langgraph_serverless.other_variables import OTHER_VARIABLES

FOLDER = Path(__file__).parent / "reference"
PAGE, SCHEMA = FOLDER / "configuration.md", FOLDER / "langgraph.schema.json"

#: Of a key and those below it that have none of their own: a test that shows it at work, or refused.
TESTS = {
    "$schema": "tests/unit/test_config_table.py::test_a_file_with_every_key_is_taken_by_both",
    "api_version": "tests/unit/test_loader.py::test_sections_without_effect_are_named_in_the_log",
    "auth": "tests/contract/test_auth.py::test_what_the_authentication_refuses",
    "auth.cache": "tests/contract/test_auth.py::test_the_answer_is_kept_for_what_it_depends_on",
    "auth.disable_studio_auth": "tests/contract/test_auth.py::test_studio_comes_in_where_the_operator_says_so",
    "base_image": "tests/unit/test_containers.py::test_an_image_of_the_official_server_is_no_base",
    "checkpointer": "tests/unit/test_checkpointer_section.py::test_a_default_time_to_live",
    "checkpointer.path": "tests/unit/test_checkpointer_section.py::test_a_saver_of_its_own_is_refused",
    "checkpointer.serde": "tests/security/test_loading.py::test_the_classes_of_a_project_come_back",
    "checkpointer.serde.allowed_json_modules": "tests/security/test_loading.py::test_a_document_of_an_allowed_class_is_made",
    "checkpointer.serde.pickle_fallback": "tests/security/test_loading.py::test_what_may_not_be_allowed_is_refused_at_the_start",
    "dependencies": "tests/unit/test_build_dependencies.py::test_what_the_project_asks_for",
    "dockerfile_lines": "tests/unit/test_containers.py::test_keys_of_images",
    "encryption": "tests/contract/test_encryption.py::test_what_is_said_is_readable_for_clients_and_nowhere_else",
    "env": "tests/unit/test_loader.py::test_src_layout_and_dotenv",
    "graphs": "tests/unit/test_loader.py::test_state_graphs",
    "graphs.*.description": "tests/unit/test_loader.py::test_ids_and_descriptions",
    "http": "tests/unit/test_http_section.py::test_everything_is_read_and_travels_in_the_manifest",
    "http.app": "tests/contract/test_custom_app.py::test_routes",
    "http.configurable_headers": "tests/contract/test_custom_app.py::test_headers_for_graphs",
    "http.configurable-headers": "tests/unit/test_http_section.py::test_patterns",
    "http.cors": "tests/security/test_cors.py::test_the_section_says_which_pages_may_call_and_which_with_cookies",
    "http.disable_a2a": "tests/unit/test_user_app.py::test_groups_of_routes_can_be_taken_away",
    "http.disable_assistants": "tests/unit/test_user_app.py::test_groups_of_routes_can_be_taken_away",
    "http.disable_mcp": "tests/unit/test_user_app.py::test_groups_of_routes_can_be_taken_away",
    "http.disable_meta": "tests/unit/test_user_app.py::test_without_meta_health_says_no_more_than_that",
    "http.disable_runs": "tests/unit/test_user_app.py::test_groups_of_routes_can_be_taken_away",
    "http.disable_store": "tests/unit/test_user_app.py::test_groups_of_routes_can_be_taken_away",
    "http.disable_threads": "tests/unit/test_user_app.py::test_groups_of_routes_can_be_taken_away",
    "http.enable_custom_route_auth": "tests/contract/test_custom_app.py::test_their_routes_are_authenticated_if_they_are_to_be",
    "http.logging_headers": "tests/contract/test_custom_app.py::test_headers_of_the_log",
    "http.logging-headers": "tests/unit/test_http_section.py::test_credentials_are_never_passed_on",
    "http.middleware_order": "tests/contract/test_custom_app.py::test_their_routes_are_authenticated_if_they_are_to_be",
    "http.mount_prefix": "tests/contract/test_custom_app.py::test_only_health_is_at_the_root",
    "http.disable_webhooks": "tests/unit/test_webhook_rules.py::test_disabled_webhooks_are_accepted_and_never_sent",
    "image_distro": "tests/unit/test_containers.py::test_keys_of_images",
    "keep_pkg_tools": "tests/unit/test_config_table.py::test_both_judge_every_value_of_every_key_alike",
    "node_version": "tests/unit/test_config_table.py::test_both_judge_every_value_of_every_key_alike",
    "pip_config_file": "tests/unit/test_containers.py::test_keys_of_images",
    "pip_installer": "tests/unit/test_config_table.py::test_both_judge_every_value_of_every_key_alike",
    "priority": "tests/integration/test_priorities.py::test_the_first_run_decides_for_its_thread",
    "python_version": "tests/unit/test_containers.py::test_keys_of_images",
    "source": "tests/unit/test_config_table.py::test_a_project_of_uv",
    "store": "tests/contract/test_store_index.py::test_graphs_and_clients_see_the_same_items_and_scores",
    "store.index.embed": "tests/unit/test_store_section.py::test_what_may_embed",
    "store.index.fields": "tests/unit/test_store_section.py::test_paths_are_langgraphs",
    "store.path": "tests/contract/test_own_store.py::test_graphs_and_clients_share_it",
    "store.ttl": "tests/contract/test_store_index.py::test_times_to_live_are_those_of_the_project",
    "ui": "tests/unit/test_loader.py::test_sections_without_effect_are_named_in_the_log",
    "ui_config": "tests/unit/test_config_table.py::test_both_judge_every_value_of_every_key_alike",
    "webhooks": "tests/unit/test_webhook_rules.py::test_a_section_survives_the_manifest",
    "webhooks.headers": "tests/unit/test_webhook_rules.py::test_variables_are_put_into_headers",
    "webhooks.url": "tests/unit/test_webhook_rules.py::test_a_url_against_the_policy_is_refused_with_the_official_text",
}

BEFORE = """\
# langgraph.json and the environment

<!-- Written by docs/generate_configuration.py from core/langgraph_serverless/execution/config_table.py. Do not edit by hand. -->

Every key of `langgraph.json`, what it does here, and a test that shows it. Paths are relative to the folder of `langgraph.json`, and lead to
files inside it: not by `..`, not by an absolute path or a link that leads elsewhere (folders of `dependencies` may lie beside the
project). What is wrong is one sentence with the file and the key, before anything is served. A key that nobody knows is ignored with a warning,
which names the nearest one that is known. How projects are laid out and graphs are found is in [your-project.md](../guides/your-project.md).

`langgraph-serverless doctor` lists what your file has and what becomes of it. [langgraph.schema.json](langgraph.schema.json) is the same table
for editors, which complete and check while you type; `langgraph-serverless schema` prints it:

```sh
langgraph-serverless schema > langgraph.schema.json
```

```json
{
  "$schema": "./langgraph.schema.json",
  "dependencies": ["."],
  "graphs": {"agent": "./agent.py:graph"}
}
```

**works**: as on the official server, or as the sentence says. **builds**: used when an image is built of the project. **nothing**: known, and
without effect. **refused**: the project is not served with it; take the key out.
"""

AFTER = """
## What checkpoints may hold

Reading a checkpoint makes objects, and whoever can write to the database decides of which class: so only known classes are made. Those are
LangGraph's own, LangChain's messages and documents, dates, ids and the like, every dataclass, pydantic model, named tuple and enum that the schemas of your graphs and the
return annotations of your `@task` functions name, at any depth, and what `checkpointer.serde.allowed_msgpack_modules` lists:

```json
{"checkpointer": {"serde": {"allowed_msgpack_modules": [["my_package.models", "Order"]]}}}
```

You need the list for what your schemas do not name: values where they say `Any` or a bare `dict` or `list`, artifacts of tools, structured
answers of an agent, what tasks without a return annotation give. An instance of another class is stored and **read back as the plain data it was made of**: a dict
of its fields. The log says so once per class and process, when it is written and when it is read, with the entry to add; added
later, it brings back what is stored already. A class inside another class or function cannot be found by its name, and is always read as plain data. Modules are those that
your project imports; a file in no package is known as `langgraph_project_` and its path, as the log shows.

What only pickle could write (a class of your own without fields, a function, an open file) ends its run with an error that names
the class. There is no setting that brings pickle, or any class, back: not here and not in the environment (`LANGGRAPH_STRICT_MSGPACK` is always on). The
reasons are in [ADR 0030](../adr/0030-configuration-and-safe-loading.md).

## Variables of the environment

Those that are read are in [settings.md](../guides/settings.md), under the official names where there are such. `LANGSMITH_TRACING`, `LANGSMITH_API_KEY`,
`LANGSMITH_PROJECT`, `LANGSMITH_ENDPOINT`, `LANGSMITH_RUNS_ENDPOINTS` and `LANGCHAIN_TRACING_SAMPLING_RATE` are read by LangChain's own tracer, in the
process that executes your graphs. These of the official server have no effect:

| variable | why |
| --- | --- |
"""


def test_of(key: Key) -> str:
    """The test of the key, or of the nearest one above that has one; a KeyError if there is none."""
    parts = list(key.parts)
    while ".".join(parts) not in TESTS and len(parts) > 1:
        parts.pop()
    return TESTS[".".join(parts)]


def page() -> str:
    """The whole page."""
    rows = ["| key | here | what it does | test |", "| --- | --- | --- | --- |"]
    for key in TABLE.keys:
        effect = f"**{key.effect}**" if key.effect in (Effect.REFUSED, Effect.NOTHING) else str(key.effect)
        rows.append(f"| `{key.path}` | {effect} | {key.does} | `{test_of(key)}` |")
    variables = [f"| `{name}` | {why} |" for name, why in sorted(OTHER_VARIABLES.items())]
    return "\n".join([BEFORE, *rows, AFTER.rstrip("\n"), *variables, ""])


def schema() -> str:
    """The schema as the command prints it."""
    return json.dumps(TABLE.schema(), indent=2) + "\n"


if __name__ == "__main__":
    made = {PAGE: page(), SCHEMA: schema()}
    for path, text in made.items():
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not current: run python docs/generate_configuration.py")
