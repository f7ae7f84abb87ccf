"""What every answer tells a browser, as plain ASGI, outermost: errors and answers of the user's own routes are told it too.

``X-Content-Type-Options: nosniff`` on everything: an answer is what its type says, and no script is made of JSON. On JSON also
``Cache-Control: no-store``, as what a caller may read is nobody else's, and ``Referrer-Policy: no-referrer``. What an answer says
itself stays as it is. ``Strict-Transport-Security`` is the edge's: only that knows whether there is TLS. What frames and
policies are about is for pages, of which there is one (``docs_page``).
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NOSNIFF = (b"x-content-type-options", b"nosniff")
_OF_JSON = ((b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer"))


class SecurityHeaders:
    """Adds them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                said = {name.lower(): value for name, value in headers}
                json = said.get(b"content-type", b"").startswith(b"application/json")
                headers += (one for one in (_NOSNIFF, *(_OF_JSON if json else ())) if one[0] not in said)
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, tell)
