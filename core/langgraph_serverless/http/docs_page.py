"""``/docs``: Swagger UI over ``openapi.json``, which is looked for beside it, so that any prefix or stage will do.

FastAPI's own page loads whatever a CDN has for "version 5" today, and a picture from a third site; a page on this origin may do
all that its reader may. Here the version is pinned, the browser compares both files with hashes of the package in npm's registry
(``tests/security/test_headers.py`` says how they were made), and a policy lets nothing else load, run or be sent anywhere.
"""

from __future__ import annotations

import base64
import hashlib

from starlette.responses import HTMLResponse

SWAGGER_UI = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5.33.3/"
SCRIPT_HASH = "sha384-h00llMzD1afyNow1pDmnZKlHsUZgp9KE9HXLFXF2CvbwsBY0+WBO4f75SfGwvM4K"
STYLE_HASH = "sha384-Ov4/wv3j2bmct8cDc5X4ngJZohVPzEmc6uDPH8WeljUxO5vtoykvMEfbu9Vh6RaW"

_START = """SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, layout: "BaseLayout"});"""
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{SWAGGER_UI}swagger-ui.css" integrity="{STYLE_HASH}" crossorigin="anonymous">
<title>LangGraph Server</title>
</head>
<body>
<div id="swagger-ui"></div>
<script src="{SWAGGER_UI}swagger-ui-bundle.js" integrity="{SCRIPT_HASH}" crossorigin="anonymous"></script>
<script>{_START}</script>
</body>
</html>
"""
_STARTS = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {SWAGGER_UI} 'sha256-{_STARTS}'",
        # Swagger UI writes styles of its own
        f"style-src {SWAGGER_UI} 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def docs_page() -> HTMLResponse:
    """The page, with what browsers are to hold it to."""
    headers = {"content-security-policy": POLICY, "x-frame-options": "DENY", "referrer-policy": "no-referrer"}
    return HTMLResponse(_PAGE, headers=headers)
