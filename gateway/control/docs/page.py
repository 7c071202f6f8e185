"""The routes of ``/docs``: one page, and the files that it loads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import swagger_ui_bundle  # type: ignore[import-untyped]
from aiohttp import web

PATH = "/docs"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may do for this page: its own scripts, styles and requests, icons that lie in its styles."""

_OURS = Path(__file__).parent / "assets"
_LIBRARY = Path(swagger_ui_bundle.swagger_ui_path)
_FILES = {
    "docs.js": (_OURS, "text/javascript; charset=utf-8"),
    "docs.css": (_OURS, "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (_LIBRARY, "text/javascript; charset=utf-8"),
    "swagger-ui.css": (_LIBRARY, "text/css; charset=utf-8"),
}
# The path holds a digest of what is served there: it never changes, so browsers need not ask again.
_KEPT = "public, max-age=31536000, immutable"


def docs_routes() -> list[web.RouteDef]:
    """Return the routes of the page and its files, which need no credential."""
    assets = f"{PATH}/{_digest()}"
    page = (_OURS / "docs.html").read_text(encoding="utf-8").replace("{assets}", assets)

    async def show(request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def file(request: web.Request) -> web.StreamResponse:
        place = _FILES.get(request.match_info["file"])
        if place is None:
            raise web.HTTPNotFound
        directory, content_type = place
        headers = {"Content-Type": content_type, "Cache-Control": _KEPT}
        return web.FileResponse(directory / request.match_info["file"], headers=headers)

    return [web.get(PATH, show), web.get(f"{PATH}/", show), web.get(f"{assets}/{{file}}", file)]


def _digest() -> str:
    digest = hashlib.sha256()
    for name, (directory, _) in sorted(_FILES.items()):
        digest.update((directory / name).read_bytes())
    return digest.hexdigest()[:16]
