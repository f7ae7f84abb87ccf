"""Addresses of servers: which ones the user named, whether they answer, how to show them.

Promises that no password leaves this module: ``without_password`` removes it from a URI, and the reasons that drivers give
are searched for it before they become part of a sentence.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Mapping
from dataclasses import fields
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from langgraph_serverless.errors import StartupError
from langgraph_serverless.settings import Settings

_CONNECT_TIMEOUT = 5
_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "passfile"})


def variables(setting: str) -> tuple[str, ...]:
    """The environment variables that a setting is read from, the strongest first."""
    return next(tuple(field.metadata["names"]) for field in fields(Settings) if field.name == setting)


def named(environ: Mapping[str, str], setting: str) -> tuple[str, str] | None:
    """The variable and value with which the user chose a server of their own."""
    return next(((name, environ[name]) for name in variables(setting) if environ.get(name)), None)


def check_postgres(name: str, uri: str) -> None:
    """Connect once.

    Raises:
        StartupError: if that takes more than five seconds or fails; names the variable, never the password.
    """
    try:
        psycopg.connect(uri, connect_timeout=_CONNECT_TIMEOUT).close()
    except psycopg.Error as error:
        raise _unreachable("Postgres", name, uri, str(error)) from error


def check_redis(name: str, uri: str) -> None:
    """Ask for one answer, as ``check_postgres`` does."""
    try:
        client = redis.from_url(
            uri,
            socket_connect_timeout=_CONNECT_TIMEOUT,
            socket_timeout=_CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            client.ping()
        finally:
            client.close()
    except (redis.RedisError, ValueError) as error:
        raise _unreachable("Redis", name, uri, str(error)) from error


def without_password(uri: str) -> str:
    """The URI as it may be shown."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return f"{uri.split('://', 1)[0]}://..."
    userinfo, at, host = parts.netloc.rpartition("@")
    user = userinfo.split(":", 1)[0]
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in _SECRET_PARAMETERS]
    shown = urlencode(query, safe="/", quote_via=quote)  # a socket's path stays readable
    # not urlunsplit, which drops the slashes of unix:///path
    return f"{parts.scheme}://{user}{at if user else ''}{host}{parts.path}{'?' if shown else ''}{shown}"


def listen(host: str, port: int) -> socket.socket:
    """Take the port. From here on it is ours, although nobody answers yet: connections wait.

    Raises:
        StartupError: if it cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise StartupError(f"The host {host} is not known; choose another with --host.") from error
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise StartupError(
                f"Port {port} needs more rights than this user has; choose another with --port."
            ) from error
        if error.errno == errno.EADDRINUSE:
            raise StartupError(
                f"Port {port} on {host} is in use by another program; stop it or choose another port with --port."
            ) from error
        raise StartupError(f"Port {port} on {host} cannot be used: {error.strerror}.") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds the listener."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unreachable(what: str, name: str, uri: str, reason: str) -> StartupError:
    # libpq indents its hints below the reason
    lines = [line for line in reason.strip().splitlines() if not line.startswith((" ", "\t"))]
    said = lines[-1] if lines else "no reason given"
    for secret in _secrets(uri):
        said = said.replace(secret, "***")
    # the sentence names the server already
    said = re.sub(r"^.*connection (failed|is bad): ", "", said)
    said = re.sub(r"^connection to server .* failed: ", "", said).rstrip(".")
    return StartupError(f"{what} at {without_password(uri)} ({name}) cannot be reached: {said}.")


def _secrets(uri: str) -> list[str]:
    """Every spelling of the URI's password, and the whole URI, in case a driver repeats what it could not read."""
    found = [uri]
    try:
        parts = urlsplit(uri)
        values = [parts.password or "", *(value for key, value in parse_qsl(parts.query) if key in _SECRET_PARAMETERS)]
    except ValueError:
        values = [uri.partition("://")[2].rpartition("@")[0].partition(":")[2]]
    for value in values:
        if value:
            found += [value, unquote(value), quote(value, safe="")]
    return found
