"""The keys of langgraph.json, one by one. See ``config_keys.py`` for what is made of them.

A key that is added to a section's reader is added here, with the test that shows it in ``docs/generate_configuration.py``.
"""

from __future__ import annotations

from typing import Any

from langgraph_serverless.execution.config_keys import Effect, Key, KeyTable

WORKS, BUILDS, NOTHING, REFUSED = Effect

_TEXT: dict[str, Any] = {"type": "string"}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_FLAG: dict[str, Any] = {"type": "boolean"}
_FLAG_OR_NULL: dict[str, Any] = {"type": ["boolean", "null"]}
_SECTION: dict[str, Any] = {"type": ["object", "null"]}
_TEXTS: dict[str, Any] = {"type": ["array", "null"], "items": {"type": "string"}}
_HEADERS: dict[str, Any] = {
    "type": ["array", "null"],
    "items": {"type": "string", "pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
}
#: ``./file.py:name`` or ``package.module:name``; JavaScript is not run here
_TARGET: dict[str, Any] = {
    "type": "string",
    "pattern": r"^(?![^:]*\.([mc]?[jt]s|[jt]sx):)([^\s:][^:]*\.py|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):[A-Za-z_]\w*$",
}
_CLASSES: dict[str, Any] = {
    "anyOf": [
        {"type": "null"},
        {"const": False},
        {
            "type": "array",
            "items": {"type": "array", "minItems": 2, "items": {"type": "string", "pattern": r"^[^\W\d][\w.]*$"}},
        },
    ]
}
_MINUTES: dict[str, Any] = {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 2**31 - 1}
_THREAD_NUMBER: dict[str, Any] = {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e9}


_HAS_PATH: dict[str, Any] = {"required": ["path"], "properties": {"path": {"type": "string"}}}


def _needs(*names: str) -> dict[str, Any]:
    """A section that may be empty, and if it is not has these keys."""
    return {**_SECTION, "if": {"type": "object", "minProperties": 1}, "then": {"required": list(names)}}


def _one_of(*words: str) -> dict[str, Any]:
    return {"enum": [*words, None]}


TABLE = KeyTable(
    [
        Key("$schema", {}, NOTHING, "For editors only."),
        Key(
            "graphs",
            {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9._~-]*$"}},
            WORKS,
            "Required. Graph id to graph; ids are URL-safe. JavaScript graphs are refused.",
        ),
        Key(
            "graphs.*",
            {"anyOf": [_TARGET, {"type": "object", "required": ["path"]}]},
            WORKS,
            "`./file.py:name` or `package.module:name` of a compiled graph, a `StateGraph`, an `@entrypoint` or a factory; files lie inside the project.",
        ),
        Key("graphs.*.path", _TARGET, WORKS, "The graph, as above."),
        Key("graphs.*.description", _TEXT_OR_NULL, WORKS, "Becomes the description of the graph's default assistant."),
        Key(
            "dependencies",
            {
                "type": ["array", "null"],
                "items": {"type": "string", "pattern": "^[^-~\\s]", "not": {"pattern": "[Ff][Ii][Ll][Ee]:"}},
            },
            WORKS,
            "Folders that begin with a dot are imported from, and may lie beside the project; requirements and URLs of git are installed by `build` and `dockerfile`. Options of pip, `file:` URLs and URLs with a password are refused.",
        ),
        Key(
            "env",
            {
                "anyOf": [
                    {"type": ["string", "null"]},
                    {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
                ]
            },
            WORKS,
            "A map, or the path of a dotenv file inside the project. A variable that is set already wins.",
        ),
        Key(
            "python_version",
            {"type": ["string", "null"], "pattern": r"^3\.(1[1-9]|[2-9][0-9])$"},
            BUILDS,
            "The Python of the image that `dockerfile` describes, 3.11 or later; a server on another Python says so in its log.",
        ),
        Key(
            "node_version",
            {"type": ["string", "null"], "pattern": "^([2-9][0-9]|[1-9][0-9]{2})$"},
            NOTHING,
            "There are no JavaScript graphs here, so that no Node.js is needed.",
        ),
        Key(
            "api_version",
            {"type": ["string", "null"], "pattern": r"^(>?~=\s*)?[0-9]+(\.[0-9]+){0,2}(\.?(dev|rc)[0-9]+)?$"},
            NOTHING,
            "Names a version of the official server; this one is the version of the package that is installed.",
        ),
        Key(
            "base_image",
            {"type": ["string", "null"], "pattern": r"^\S*$"},
            BUILDS,
            "The image that `dockerfile` begins with; one that holds the official server is passed over.",
        ),
        Key(
            "image_distro",
            _one_of("debian", "wolfi", "bookworm"),
            BUILDS,
            "`debian` or `bookworm` of the image that `dockerfile` begins with; `wolfi` takes a `base_image`.",
        ),
        Key(
            "pip_config_file",
            _TEXT_OR_NULL,
            BUILDS,
            "A file inside the project, which pip sees while the image of `dockerfile` is built.",
        ),
        Key(
            "pip_installer",
            _one_of("auto", "pip", "uv"),
            NOTHING,
            "Builds install with pip; a `uv.lock` is respected where `uv` is there to read it.",
        ),
        Key(
            "keep_pkg_tools",
            {"anyOf": [_FLAG_OR_NULL, {"type": "array", "items": {"enum": ["pip", "setuptools", "wheel"]}}]},
            NOTHING,
            "Images have the tools of their base; bundles have none.",
        ),
        Key("dockerfile_lines", _TEXTS, BUILDS, "Lines that `dockerfile` puts behind its first `FROM`."),
        Key(
            "source",
            {**_SECTION, "if": {"type": "object"}, "then": {"required": ["kind"]}},
            WORKS,
            'A uv project in the folder of langgraph.json; the same as `dependencies: ["."]`, instead of which it stands.',
        ),
        Key("source.kind", {"const": "uv"}, WORKS, "`uv`."),
        Key(
            "source.root",
            {"enum": [".", "./", None]},
            WORKS,
            "`.`; a workspace elsewhere is refused: name its folders in `dependencies`.",
        ),
        Key(
            "source.package", {"type": "null"}, REFUSED, "A package of a workspace: name its folder in `dependencies`."
        ),
        Key(
            "store",
            {**_SECTION, "if": _HAS_PATH, "then": {"properties": {"index": {"type": "null"}, "ttl": {"type": "null"}}}},
            WORKS,
            "The long-term memory of graphs and of `/store`.",
        ),
        Key(
            "store.index",
            {**_SECTION, "if": {"type": "object"}, "then": {"required": ["dims", "embed"]}},
            WORKS,
            "Semantic search.",
        ),
        Key("store.index.dims", {"type": "integer", "minimum": 1, "maximum": 16000}, WORKS, "Numbers per vector."),
        Key(
            "store.index.embed",
            {"type": "string", "pattern": "[^:]"},
            WORKS,
            "`provider:model`, or `./file.py:name` of a function or an `Embeddings` of the project's own.",
        ),
        Key(
            "store.index.fields",
            {"type": ["array", "string", "null"], "items": {"type": "string"}},
            WORKS,
            "What is embedded of an item; `$` is all of it.",
        ),
        Key("store.ttl", _SECTION, WORKS, "How long items live."),
        Key("store.ttl.default_ttl", _MINUTES, WORKS, "Minutes; null: for ever."),
        Key("store.ttl.refresh_on_read", _FLAG, WORKS, "Whether reading an item starts its time anew."),
        Key(
            "store.ttl.sweep_interval_minutes",
            _MINUTES,
            WORKS,
            "How often what has expired is removed; it is hidden at once, and without this it goes with the scheduler's next tick.",
        ),
        Key(
            "store.path",
            {"anyOf": [{"type": "null"}, _TARGET]},
            WORKS,
            "A `BaseStore` of the project's own, or what makes one; it stands instead of `index` and `ttl`, and is refused together with tenants or encryption.",
        ),
        Key("checkpointer", _SECTION, WORKS, "Checkpoints, which are kept in Postgres."),
        Key("checkpointer.ttl", _SECTION, WORKS, "The time to live that threads are made with."),
        Key(
            "checkpointer.ttl.strategy",
            {"enum": ["delete", "keep_latest"]},
            WORKS,
            "What happens then: the thread goes, or all but what its newest state needs.",
        ),
        Key("checkpointer.ttl.default_ttl", _THREAD_NUMBER, WORKS, "Minutes since the last use of the thread."),
        Key(
            "checkpointer.ttl.sweep_interval_minutes",
            _THREAD_NUMBER,
            WORKS,
            "Not needed: the scheduler removes what is due at every tick.",
        ),
        Key("checkpointer.ttl.sweep_limit", _THREAD_NUMBER, WORKS, "Not needed: it does so in batches of its own."),
        Key(
            "checkpointer.serde",
            _SECTION,
            WORKS,
            "Classes that are made when checkpoints are read, beside those that the schemas of graphs name.",
        ),
        Key(
            "checkpointer.serde.allowed_msgpack_modules",
            _CLASSES,
            WORKS,
            '`[["package.module", "Class"], ...]`; null: none more. `true` is refused: a checkpoint could then call anything.',
        ),
        Key(
            "checkpointer.serde.allowed_json_modules",
            _CLASSES,
            WORKS,
            "The same for documents of versions of LangGraph that wrote JSON.",
        ),
        Key(
            "checkpointer.serde.pickle_fallback",
            {"enum": [False, None]},
            WORKS,
            "`false`; `true` is refused, nothing is pickled or unpickled.",
        ),
        Key(
            "checkpointer.path",
            {"type": "null"},
            REFUSED,
            "A saver of the project's own: it could not keep two workers from writing to one thread, nor take part in cancels, copies and times to live.",
        ),
        Key("auth", _needs("path"), WORKS, "Who is calling, and what they may do."),
        Key("auth.path", _TARGET, WORKS, "Of a `langgraph_sdk.Auth`."),
        Key("auth.disable_studio_auth", _FLAG, WORKS, "Studio's requests are authenticated like any other."),
        Key("auth.openapi", _SECTION, WORKS, "`securitySchemes` and `security` of the OpenAPI document."),
        Key(
            "auth.cache",
            {**_SECTION, "if": {"type": "object"}, "then": {"required": ["cache_keys"]}},
            WORKS,
            "Keeps answers of the authentication.",
        ),
        Key(
            "auth.cache.cache_keys",
            {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            WORKS,
            "The headers that an answer depends on.",
        ),
        Key(
            "auth.cache.ttl_seconds",
            {"type": "number", "exclusiveMinimum": 0, "maximum": 86400},
            WORKS,
            "For how long.",
        ),
        Key("auth.cache.max_size", {"type": "integer", "minimum": 1, "maximum": 1000000}, WORKS, "How many."),
        Key(
            "encryption",
            {**_SECTION, "if": {"type": "object"}, "then": {"required": ["path"]}},
            WORKS,
            "Encryption at rest.",
        ),
        Key("encryption.path", _TARGET, WORKS, "Of a `langgraph_sdk.Encryption`."),
        Key("priority", _needs("path"), WORKS, "Which threads go first."),
        Key("priority.path", _TARGET, WORKS, "Of a `langgraph_sdk.Priority`."),
        Key("http", _SECTION, WORKS, "The HTTP API, and an application of the project's own."),
        Key(
            "http.app",
            {"anyOf": [{"type": "null"}, _TARGET]},
            WORKS,
            "A Starlette or FastAPI application, whose routes win.",
        ),
        Key(
            "http.mount_prefix",
            {
                "type": ["string", "null"],
                "pattern": r"^((/[A-Za-z0-9._~-]+)+/*|/*)$",
                "not": {"type": "string", "pattern": r"/\.{1,2}(/|$)"},
            },
            WORKS,
            "Prefix of all routes.",
        ),
        *(
            Key(f"http.disable_{group}", _FLAG_OR_NULL, WORKS, f"The routes of {what} answer 404.")
            for group, what in (
                ("assistants", "assistants"),
                ("threads", "threads"),
                ("runs", "runs and crons"),
                ("store", "the store"),
                ("mcp", "MCP"),
                ("a2a", "A2A"),
                ("meta", "`/info`, metrics and documentation"),
                ("ui", "`/ui`"),
            )
        ),
        Key("http.disable_webhooks", _FLAG, WORKS, "Webhooks are accepted and not sent."),
        Key("http.cors", _SECTION, WORKS, "Which pages may call from a browser; replaces the default."),
        *(
            Key(
                f"http.cors.{name}",
                _HEADERS,
                WORKS,
                f"`{name}` of Starlette's `CORSMiddleware`.",
            )
            for name in ("allow_methods", "allow_headers", "expose_headers")
        ),
        Key(
            "http.cors.allow_origins",
            {
                "type": ["array", "null"],
                "items": {"type": "string", "pattern": r"^([*]|[a-z][a-z0-9+.-]*://[^/\s?#]+)$"},
            },
            WORKS,
            "Origins as browsers send them, or `*`.",
        ),
        Key("http.cors.allow_credentials", _FLAG_OR_NULL, WORKS, "Refused together with any origin."),
        Key("http.cors.allow_origin_regex", _TEXT_OR_NULL, WORKS, "A regular expression."),
        Key("http.cors.max_age", {"type": ["integer", "null"], "minimum": 0, "maximum": 2**31 - 1}, WORKS, "Seconds."),
        *(
            key
            for name in ("configurable_headers", "configurable-headers", "logging_headers", "logging-headers")
            for key in (
                Key(
                    f"http.{name}",
                    _SECTION,
                    WORKS,
                    "Headers that reach `config.configurable`."
                    if "configurable" in name
                    else "Headers that reach the request's log line.",
                ),
                *(
                    Key(
                        f"http.{name}.{part}",
                        _HEADERS,
                        WORKS,
                        "Names in which `*` is any text" + ("." if part.startswith("in") else "; they win."),
                    )
                    for part in ("includes", "excludes", "include", "exclude")
                ),
            )
        ),
        Key(
            "http.middleware_order",
            _one_of("middleware_first", "auth_first"),
            WORKS,
            "What sees a request first: the application's middleware or the authentication.",
        ),
        Key(
            "http.enable_custom_route_auth", _FLAG_OR_NULL, WORKS, "The application's own routes are authenticated too."
        ),
        Key(
            "webhooks",
            _SECTION,
            WORKS,
            "Where webhooks may go and what is sent along; also as JSON in `LANGGRAPH_WEBHOOKS`.",
        ),
        Key("webhooks.env_prefix", _TEXT_OR_NULL, WORKS, "With which the variables begin that headers may name."),
        Key("webhooks.headers", _SECTION, WORKS, "Headers of every webhook."),
        Key("webhooks.headers.*", _TEXT, WORKS, "Text, with `${{ env.NAME }}`."),
        Key("webhooks.url", _SECTION, WORKS, "Where webhooks may go."),
        Key("webhooks.url.require_https", _FLAG, WORKS, "True once there is the section."),
        Key("webhooks.url.allowed_domains", _TEXTS, WORKS, "Names, or `*.` and a domain."),
        Key(
            "webhooks.url.allowed_ports",
            {"type": ["array", "null"], "items": {"type": "integer", "minimum": 1, "maximum": 65535}},
            WORKS,
            "Empty: all.",
        ),
        Key(
            "webhooks.url.max_url_length",
            {"type": ["integer", "null"], "minimum": 1, "maximum": 8192},
            WORKS,
            "Characters.",
        ),
        Key("webhooks.url.disable_loopback", _FLAG, WORKS, "A URL that is a path of this server is refused."),
        Key(
            "ui",
            _SECTION,
            NOTHING,
            "Components are not built or served: that takes a bundler for JavaScript. Serve them from where your pages are.",
        ),
        Key("ui.*", _TEXT, NOTHING, "As above."),
        Key("ui_config", _SECTION, NOTHING, "As `ui`."),
    ]
)
