"""Settings of a function that are secrets: read from Secrets Manager or SSM at cold start, and again when a password has changed.

``DATABASE_URI`` may be given as it is, as ``DATABASE_URI_SECRET`` (name or ARN of a secret in Secrets Manager) or as
``DATABASE_URI_PARAMETER`` (name of a parameter in SSM, decrypted); the same for every other of ``SECRET_SETTINGS``. What
they hold is a URI or, as RDS writes it, a JSON document of username, password, host, port and dbname. ``DATABASE_HOST`` wins over the
host in either: RDS Proxy has another one than the secret says, and the secrets that RDS makes by itself say none.

Errors name variables and secrets, never a value. Nothing is imported for this that a function with plain addresses pays for; and boto3, whose
import is a third of a cold start, only where a plain signed request does not come back with the secret (``signed_requests``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from langgraph_serverless.addresses import Address
from langgraph_serverless.errors import SettingsError
from langgraph_serverless.settings import Settings
from langgraph_serverless.signed_requests import NotAnsweredError, ask_aws

SECRET_SETTINGS = ("DATABASE_URI", "REDIS_URI", "WEBHOOK_SIGNING_SECRETS", "WEBHOOK_VARIABLES")
#: Those that are addresses, with the fields of ``Settings`` that they become.
ADDRESSES = {"DATABASE_URI": "database_uri", "REDIS_URI": "redis_uri"}
#: A function without a way to Secrets Manager is to say so within its own 30 seconds (seconds per try, tries).
CONNECT_WITHIN, ANSWER_WITHIN, TRIES = 3, 5, 2


@dataclass(frozen=True)
class SecretReader:
    """Reads the secrets that an environment names."""

    environ: Mapping[str, str]
    #: What has been read without boto3, by setting.
    _asked: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    #: boto3 makes clients in one thread at a time.
    _making: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def read_all(self) -> tuple[dict[str, str], dict[str, Address]]:
        """The environment with its secrets as variables, and the addresses among them that can be read again.

        Raises:
            SettingsError: with every problem found.
        """
        found = dict(self.environ)
        addresses: dict[str, Address] = {}
        problems: list[str] = []
        for name, read in self._begin().items():
            try:
                found[name] = read()
                if name in ADDRESSES and found[name] and not self.environ.get(name):
                    addresses[ADDRESSES[name]] = Address(self._address(name), partial(self._address, name, anew=True))
            except SettingsError as error:
                problems.extend(error.problems)
        if problems:
            raise SettingsError(problems)
        return found, addresses

    def _begin(self) -> dict[str, Callable[[], str]]:
        """Reads of all settings, of which those that take a request each are made side by side."""
        asked = [name for name in SECRET_SETTINGS if not self.environ.get(name) and self._source(name)]
        reads: dict[str, Callable[[], str]] = {name: partial(self._read, name) for name in SECRET_SETTINGS}
        if len(asked) > 1:
            with ThreadPoolExecutor(len(asked)) as threads:
                reads |= {name: threads.submit(reads[name]).result for name in asked}
        return reads

    def _source(self, name: str) -> str:
        return self.environ.get(f"{name}_SECRET") or self.environ.get(f"{name}_PARAMETER") or ""

    def _address(self, name: str, *, anew: bool = False) -> str:
        """In the form that ``Settings`` gives it, so that the two can be compared."""
        try:
            return str(Settings.value_of(ADDRESSES[name], self._read(name, anew=anew)))
        except ValueError as error:
            raise SettingsError([f"{name} is not valid: {error}"]) from None

    def _read(self, name: str, *, anew: bool = False) -> str:
        value = self.environ.get(name) or self._fetch(name, anew=anew)
        if not value or name not in ADDRESSES:
            return value
        try:
            host = self.environ.get("DATABASE_HOST", "") if name == "DATABASE_URI" else ""
            if value.lstrip().startswith("{"):
                ours = "PGSSLMODE" not in self.environ
                return postgres_uri(value, host, require_tls=ours) if name == "DATABASE_URI" else redis_uri(value)
            return with_host(value, host) if host else value
        except ValueError as error:
            # the parsers' own texts would show what they have read
            raise SettingsError([f"{name} is not valid: {error}"]) from None

    def _fetch(self, name: str, *, anew: bool) -> str:
        secret, parameter = self.environ.get(f"{name}_SECRET"), self.environ.get(f"{name}_PARAMETER")
        if not secret and not parameter:
            return ""
        if anew or name not in self._asked:
            try:
                self._asked[name] = self._ask(secret, str(parameter))
            except NotAnsweredError:
                return self._fetch_by_boto3(name, secret, str(parameter), anew=anew)
        return self._asked[name]

    def _ask(self, secret: str | None, parameter: str) -> str:
        """The value, by one request.

        Raises:
            NotAnsweredError: it does not come, or is no text.
        """
        ask = partial(ask_aws, environ=self.environ, within=CONNECT_WITHIN)
        if secret:
            found = ask("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": secret}).get("SecretString")
        else:
            wanted = {"Name": parameter, "WithDecryption": True}
            found = (ask("ssm", "AmazonSSM.GetParameter", wanted).get("Parameter") or {}).get("Value")
        if not isinstance(found, str):
            raise NotAnsweredError
        return found

    def _fetch_by_boto3(self, name: str, secret: str | None, parameter: str, *, anew: bool) -> str:
        from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError  # noqa: PLC0415

        try:
            with self._making:
                provider = self._secrets if secret else self._parameters
            if secret:
                value = provider.get(secret, force_fetch=anew)
            else:
                value = provider.get(parameter, decrypt=True, force_fetch=anew)
        except GetParameterError as error:
            variable = f"{name}_SECRET" if secret else f"{name}_PARAMETER"
            raise SettingsError([f"{variable} names '{secret or parameter}', which cannot be read: {error}"]) from error
        return str(value or "")

    @cached_property
    def _secrets(self) -> Any:
        from aws_lambda_powertools.utilities.parameters import SecretsProvider  # noqa: PLC0415

        return SecretsProvider(boto_config=_limits())

    @cached_property
    def _parameters(self) -> Any:
        from aws_lambda_powertools.utilities.parameters import SSMProvider  # noqa: PLC0415

        return SSMProvider(boto_config=_limits())


def postgres_uri(document: str, host: str = "", *, require_tls: bool = True) -> str:
    """The URI that RDS's JSON document means.

    Raises:
        ValueError: it is no such document; the text says what is missing.
    """
    found = _document(document)
    address = quote(host or _required(found, "host"), safe=":[]")  # or a socket's folder
    if ":" not in address:
        address = f"{address}:{found.get('port') or 5432}"
    # libpq's own default is a database with the name of the user
    name = str(found.get("dbname") or found["username"])
    # TLS, without asking who answers: RDS' own authority is in no system's store. libpq's PGSSLMODE and PGSSLROOTCERT say more.
    options = "?sslmode=require" if require_tls else ""
    return f"postgresql://{_user(found)}@{address}/{quote(name, safe='')}{options}"


def redis_uri(document: str) -> str:
    """The URI that a JSON document means; with TLS, unless it says ``"tls": false``.

    Raises:
        ValueError: it is no such document; the text says what is missing.
    """
    found = _document(document)
    scheme = "redis" if found.get("tls") is False else "rediss"
    return f"{scheme}://{_user(found)}@{_required(found, 'host')}:{found.get('port') or 6379}"


def with_host(uri: str, host: str) -> str:
    """The same URI with another host, which may have a port.

    Raises:
        ValueError: it is no URI.
    """
    try:
        parts = urlsplit(uri)
        port = f":{parts.port}" if parts.port and ":" not in host else ""
    except ValueError:
        raise ValueError("must be a URI or a JSON document") from None
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    elsewhere = [(key, value) for key, value in parse_qsl(parts.query) if key not in {"host", "hostaddr", "port"}]
    return parts._replace(netloc=f"{user}{host}{port}", query=urlencode(elsewhere)).geturl()


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        _required(found, "username")
        _required(found, "password")
        return found
    raise ValueError("must be a URI or a JSON document")


def _required(document: Mapping[str, Any], key: str) -> str:
    if not document.get(key):
        raise ValueError(f"the JSON document lacks '{key}'")
    return str(document[key])


def _user(document: Mapping[str, Any]) -> str:
    return f"{quote(str(document['username']), safe='')}:{quote(str(document['password']), safe='')}"


def _limits() -> Any:
    from botocore.config import Config  # noqa: PLC0415 - takes 0.2 s: only a function that really asks pays for it

    return Config(
        connect_timeout=CONNECT_WITHIN,
        read_timeout=ANSWER_WITHIN,
        retries={"total_max_attempts": TRIES, "mode": "standard"},
    )
