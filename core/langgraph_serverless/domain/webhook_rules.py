"""What a deployment lays down about webhooks: the section ``webhooks`` of langgraph.json, or ``LANGGRAPH_WEBHOOKS``.

``WebhookRules.of`` promises rules in which every value has its type and range, or a one-sentence ``ProjectError`` that names
the key. Headers are kept as they are written, with their ``${{ env.NAME }}``: the rules travel in the manifest, and what they
stand for is looked up by ``headers`` where webhooks are sent. A name or value that could end a header early, or that says how
the request is framed or signed, is refused there or before, and never shown.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langgraph_serverless.domain.webhooks import LONGEST_URL, WebhookTarget, parse_url
from langgraph_serverless.errors import InvalidInputError, ProjectError

ENV_PREFIX = "LG_WEBHOOK_"
#: Headers that say how the request is framed and signed, or that are for the next machine only.
RESERVED_HEADERS = frozenset(
    [
        *(
            "connection",
            "content-length",
            "expect",
            "host",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ),
        *("webhook-id", "webhook-signature", "webhook-timestamp"),
    ]
)
#: Characters of one header's value.
LONGEST_VALUE = 8192

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_TEMPLATE = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_DOMAIN = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRules:
    """Where webhooks may go beside being public, and what is sent along."""

    #: Accepted and never sent (``http.disable_webhooks``).
    disabled: bool = False
    require_https: bool = False
    #: Host names, addresses, and ``*.`` with a domain for every name below it; empty: all.
    allowed_domains: tuple[str, ...] = ()
    #: Empty: all.
    allowed_ports: tuple[int, ...] = ()
    max_url_length: int = LONGEST_URL
    #: Whether a URL may be a path of this server.
    allow_relative: bool = False
    env_prefix: str = ENV_PREFIX
    #: As written.
    header_templates: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, section: Mapping[str, Any] | None, *, disabled: bool = False) -> WebhookRules:
        """What the section says; without one, the defaults.

        Raises:
            ProjectError: naming the key; values of headers are not shown.
        """
        if section is None:
            return cls(disabled=disabled)
        url = section.get("url")
        url = {} if url is None else url
        if not isinstance(url, dict):
            raise ProjectError("webhooks.url must be an object.")
        prefix = section.get("env_prefix")
        if prefix is not None and not isinstance(prefix, str):
            raise ProjectError("webhooks.env_prefix must be a string.")
        longest = url.get("max_url_length")
        return cls(
            disabled=disabled,
            require_https=_flag(url, "require_https"),
            allowed_domains=tuple(_domain(entry) for entry in _listed(url, "allowed_domains")),
            allowed_ports=tuple(_whole(entry, "allowed_ports", 65535) for entry in _listed(url, "allowed_ports")),
            max_url_length=LONGEST_URL if longest is None else _whole(longest, "max_url_length", LONGEST_URL),
            allow_relative=not _flag(url, "disable_loopback"),
            env_prefix=prefix or ENV_PREFIX,
            header_templates=_templates(section.get("headers"), prefix or ENV_PREFIX),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the manifest."""
        return {
            "disabled": self.disabled,
            "section": {
                "env_prefix": self.env_prefix,
                "headers": dict(self.header_templates),
                "url": {
                    "require_https": self.require_https,
                    "allowed_domains": list(self.allowed_domains),
                    "allowed_ports": list(self.allowed_ports),
                    "max_url_length": self.max_url_length,
                    "disable_loopback": not self.allow_relative,
                },
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WebhookRules:
        """The inverse of ``to_json``."""
        return cls.of(value["section"], disabled=value["disabled"])

    @property
    def variables(self) -> frozenset[str]:
        """The environment's variables that the headers name."""
        return frozenset(name for value in self.header_templates.values() for name in _TEMPLATE.findall(value))

    def headers(self, environ: Mapping[str, str]) -> Mapping[str, str]:
        """What is sent along, with the environment's values.

        Raises:
            ProjectError: a variable is missing, or has what no header may have; its value is not shown.
        """
        return {name: _resolved(name, template, environ) for name, template in self.header_templates.items()}

    def target(self, url: str, own_address: str = "") -> WebhookTarget:
        """Take a URL apart that may be sent to, as far as the URL itself can tell.

        Args:
            own_address: where this server is reached, for URLs that are a path of it.

        Raises:
            InvalidInputError: with the texts of the official server.
        """
        if len(url) > self.max_url_length:
            raise InvalidInputError("Webhook URL too long")
        # "//host/path" is no path: it names a host
        if url.startswith("/") and not url.startswith("//") and self.allow_relative:
            if not own_address:
                raise InvalidInputError("Webhook URL is relative, and WEBHOOK_BASE_URL does not say to which address")
            return replace(parse_url(own_address.rstrip("/") + url), own=True)
        target = parse_url(url)
        if self.require_https and not target.secure:
            raise InvalidInputError("Webhook must use https")
        if self.allowed_domains and not any(_matches(target.host, domain) for domain in self.allowed_domains):
            raise InvalidInputError("Webhook domain not allowed")
        if self.allowed_ports and target.port not in self.allowed_ports:
            raise InvalidInputError(f"Webhook port {target.port} not allowed")
        return target


def _matches(host: str, domain: str) -> bool:
    return host.endswith(domain[1:]) and host != domain[2:] if domain.startswith("*.") else host == domain


def _flag(url: Mapping[str, Any], name: str) -> bool:
    value = url.get(name, True)
    if not isinstance(value, bool):
        raise ProjectError(f"webhooks.url.{name} must be true or false.")
    return value


def _listed(url: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = url.get(name)
    if value is not None and not isinstance(value, list):
        raise ProjectError(f"webhooks.url.{name} must be a list.")
    return value or []


def _whole(value: Any, name: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ProjectError(f"webhooks.url.{name}: {value!r} is not a whole number from 1 to {most}.")
    return value


def _domain(entry: Any) -> str:
    problem = f"webhooks.url.allowed_domains: {entry!r} is neither a host name nor '*.' and a domain."
    if not isinstance(entry, str):
        raise ProjectError(problem)
    try:
        return str(ipaddress.ip_address(entry.strip("[]")))
    except ValueError:
        pass  # a name
    try:
        star, name = ("*.", entry[2:]) if entry.startswith("*.") else ("", entry)
        domain = star + name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ProjectError(problem) from None
    if not _DOMAIN.fullmatch(domain):
        raise ProjectError(problem)
    return domain


def _templates(headers: Any, prefix: str) -> Mapping[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise ProjectError("webhooks.headers must be an object of strings.")
    names: set[str] = set()
    for name, template in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ProjectError(f"webhooks.headers: {name!r} is not a header's name.")
        if name.lower() in RESERVED_HEADERS:
            raise ProjectError(f"webhooks.headers.{name}: this header is the server's own.")
        if name.lower() in names:
            raise ProjectError(f"webhooks.headers.{name} is there twice, in other letters.")
        names.add(name.lower())
        if not isinstance(template, str):
            raise ProjectError(f"webhooks.headers.{name} must be a string.")
        literal = _TEMPLATE.sub("", template)
        if "${{" in literal:
            raise ProjectError(f"webhooks.headers.{name}: templates are written ${{{{ env.NAME }}}}.")
        _check_value(name, literal)
        for variable in _TEMPLATE.findall(template):
            if not variable.startswith(prefix):
                raise ProjectError(f"webhooks.headers.{name}: the variable {variable} must begin with {prefix}.")
    return dict(headers)


def _resolved(name: str, template: str, environ: Mapping[str, str]) -> str:
    for variable in _TEMPLATE.findall(template):
        if variable not in environ:
            raise ProjectError(f"webhooks.headers.{name}: the environment variable {variable} is not set.")
    value = _TEMPLATE.sub(lambda found: environ[found[1]], template)
    _check_value(name, value)
    return value.strip()


def _check_value(name: str, value: str) -> None:
    if not _HEADER_VALUE.fullmatch(value):
        raise ProjectError(
            f"webhooks.headers.{name}: a header's value has no line breaks, control characters or letters beyond ASCII."
        )
    if len(value) > LONGEST_VALUE:
        raise ProjectError(f"webhooks.headers.{name}: more than {LONGEST_VALUE} characters.")
