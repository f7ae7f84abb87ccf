"""What no line and no error may show: passwords in addresses, keys and tokens of the environment, secrets of the settings.

The process learns its secrets where they come in (``Settings.from_env``, the project's ``env``, an address that is read again), and
``redacted`` takes them out of a text: out of every log line, whoever has written it, and out of what clients and operators are told
of a failed run. It also takes out what looks like one and was never learned: the password of any URI or connection string, and bearer
tokens.

What a request has come with to say who sends it (``CREDENTIALS``) is taken out of every line that is written while it is answered.

A second wall: our own code shows no secret. But a driver's error may show the address that it was given, and a graph's its key.
What is printed past the logs, or was taken apart before, is not found; nor are values of fewer than eight characters, which would
take ordinary words out of the logs. The state is the process's, as the logger is. Never raises.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import quote, unquote, urlsplit

MASKED = "***"
#: Characters of the shortest value that is looked for.
SHORTEST = 8
#: Passwords of addresses that are remembered: addresses that change add to them for as long as a process lives.
MOST = 300

#: Headers of requests whose values are secrets.
CREDENTIALS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key"})

#: Names of variables whose values are secrets, and those of them that only say where something is.
_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|_KEYS?$|_PWD$|_HEADERS$", re.IGNORECASE
)
_PLACE_NAME = re.compile(
    r"_(ID|ARN|NAME|FILE|PATH|DIR|PARAMETER|SECS|SECONDS)$|_URI_SECRET$|_(SECRETS|VARIABLES)_SECRET$"
)
#: No secrets, whatever they are used for: numbers, and words that logs are full of.
_PLAIN = re.compile(
    r"[\d.,:]*|disabled|enabled|password|passw0rd|changeme|postgres(ql)?|langgraph|localhost", re.IGNORECASE
)

#: Each stops at what cannot be in a password, and so takes one pass whatever the text is; none leaves half an escape of JSON.
_IN_URI = re.compile(r"(?<=://)([^\s/:@\"'\\]*):([^\s/@\"'\\]+)@")
_IN_WORDS = re.compile(r"(?i)\b(password|passwd|pwd)=('[^'\"\\]*'|[^\s&'\"\\]+)")
_BEARER = re.compile(r"(?i)\b(bearer) +[a-z0-9._~+/=-]{8,}")

_IN_JSON = re.compile(r"[\"\\]")

#: Addresses are read again by whatever thread needs one.
_learning = threading.Lock()
#: What was learned once, and passwords of addresses with the newest at the end, in all their spellings.
_lasting: tuple[str, ...] = ()
_passing: tuple[str, ...] = ()
#: Both, the longest first, as one may be part of another.
_known: tuple[str, ...] = ()
#: Of the request that is answered here.
_of_request: ContextVar[tuple[str, ...]] = ContextVar("credentials", default=())


def conceal(*values: str) -> None:
    """From now on show none of these, however they are spelled: as they are, quoted as in a URI, or as in JSON."""
    global _lasting  # noqa: PLW0603 - see above
    found = tuple(_spellings(values))
    with _learning:
        _lasting = tuple(dict.fromkeys((*_lasting, *found)))
        _sort()


def conceal_address(uri: str) -> None:
    """Show its password nowhere; the rest of it may be told."""
    global _passing  # noqa: PLW0603 - see above
    found = list(dict.fromkeys(_spellings(_passwords(uri))))
    with _learning:
        _passing = (*(known for known in _passing if known not in found), *found)[-MOST:]
        _sort()


def _spellings(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        for text in (value, value.strip(), unquote(value)):
            if len(text) >= SHORTEST and not _PLAIN.fullmatch(text):
                escaped = (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
                yield from dict.fromkeys((text, quote(text, safe=""), *escaped))


def _passwords(uri: str) -> Iterable[str]:
    try:
        password = urlsplit(uri).password
    except ValueError:
        return
    if password:
        yield password


def _sort() -> None:
    global _known  # noqa: PLW0603 - see above
    _known = tuple(sorted({*_lasting, *_passing}, key=len, reverse=True))


def conceal_environment(environ: Mapping[str, str]) -> None:
    """Learn the secrets of these variables: passwords of addresses, and whatever a variable's name says is one."""
    addresses = [value for value in environ.values() if "@" in value and "://" in value]
    conceal(*_secrets(environ), *(password for value in addresses for password in _passwords(value)))


@contextmanager
def concealing_credentials(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[None]:
    """Show none of a request's credentials meanwhile, in this task and in those that it begins."""
    found: list[str] = []
    for name, value in headers:
        if name in CREDENTIALS:
            text = value.decode("latin-1")
            words = (text, *text.split(), *(part.partition("=")[2].strip() for part in text.split(";")))
            # whoever sends them must not take the quotes and half the escapes out of a line of JSON, which nobody could read then
            parts = (part for word in words for part in _IN_JSON.split(word))
            found.extend(part for part in parts if len(part) >= SHORTEST)
    if not found:
        yield
        return
    token = _of_request.set(tuple(sorted(set(found), key=len, reverse=True)))
    try:
        yield
    finally:
        _of_request.reset(token)


def redacted(text: str) -> str:
    """The text without what is not to be shown."""
    for secret in (*_of_request.get(), *_known):
        if secret in text:
            text = text.replace(secret, MASKED)
    if "://" in text:
        text = _IN_URI.sub(rf"\1:{MASKED}@", text)
    if "=" in text:
        text = _IN_WORDS.sub(rf"\1={MASKED}", text)
    if "earer" in text or "EARER" in text:
        text = _BEARER.sub(rf"\1 {MASKED}", text)
    return text


def _secrets(environ: Mapping[str, str]) -> Iterable[str]:
    for name, value in environ.items():
        if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name) and not value.startswith("arn:"):
            yield value
            # several in one variable: `a,b` of signing secrets, `name=value` of headers
            for part in value.split(","):
                yield part
                yield part.partition("=")[2]
        elif name == "WEBHOOK_VARIABLES":
            yield from _strings(value)


def _strings(document: str) -> Iterable[str]:
    try:
        found = json.loads(document)
    except ValueError:
        return
    if isinstance(found, dict):
        yield from (value for value in found.values() if isinstance(value, str))
