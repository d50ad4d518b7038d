"""Serves the console's style sheet and scripts from memory. Their URLs contain a hash, so browsers store them."""

from __future__ import annotations

import hashlib
import http
from pathlib import Path
from typing import Final

import tornado.web

from admin.handlers import BaseHandler
from operations.diagram.svg import STYLE

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES: Final = {
    path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*") if path.suffix in TYPES
}
_FILES["diagram.css"] = STYLE.encode()
_VERSIONS: Final = {name: hashlib.sha256(content).hexdigest()[:16] for name, content in _FILES.items()}


def url(name: str) -> str:
    return f"/static/{name}?v={_VERSIONS[name]}"


class StaticHandler(BaseHandler):
    """`/static/NAME`."""

    async def get(self, *values: str) -> None:
        name = values[0]
        content = _FILES.get(name)
        if content is None:
            raise tornado.web.HTTPError(http.HTTPStatus.NOT_FOUND)
        self.set_header("Content-Type", f"{TYPES[Path(name).suffix]}; charset=utf-8")
        current = self.request.query == f"v={_VERSIONS[name]}"
        self.set_header("Cache-Control", "public, max-age=31536000, immutable" if current else "no-cache")
        self.finish(content)
