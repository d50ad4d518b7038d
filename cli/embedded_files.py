"""Files beside a flow file that describe its calls: a flow that is applied contains them.

The URI of a file, `file://orders.proto`, is replaced in the text of the flow by one that contains it: the lines of the
text stay, and what runners execute does not change with the file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from flowhook import limits
from flowhook.document.definition import POLICIES, value_at, walk_everywhere
from flowhook.document.diagnostics import source
from flowhook.document.models.calls import EMBEDDED
from flowhook.errors import InvalidError

MAX_BYTES: Final = 128 * limits.KIB  # one file; a flow file has at most `limits.MAX_DOCUMENT_BYTES` with all of them
DOCUMENTS: Final = ("asyncapi", "grpc", "openapi")  # functions whose document may be a file
_FILE: Final = re.compile(r"file:(?://)?([^?#]+)", re.IGNORECASE)


def embed(content: bytes, path: Path) -> bytes:
    """Return the text of a flow file with the files that it names, which are in its folder, or below. Blocking.

    Raises:
        InvalidError: a file does not exist, is elsewhere, or is too large (`FLOW_FILE_MISSING`).
    """
    if b"file:" not in content.lower():
        return content
    definition = source.read(content).data
    for uri in sorted(set(_uris(definition)), key=len, reverse=True) if isinstance(definition, dict) else ():
        text = base64.urlsafe_b64encode(_read(uri, path)).decode().rstrip("=")
        content = content.replace(uri.encode(), f"{EMBEDDED}{text}".encode())
    return content


def _uris(definition: Mapping[str, Any]) -> Iterator[str]:
    for placed in walk_everywhere(definition):
        function = placed.task.get("call")
        if function in DOCUMENTS:
            endpoint = value_at(placed.task, ("with", *POLICIES[function][0][:-1]))
            uri = endpoint.get("uri") if isinstance(endpoint, Mapping) else endpoint
            if isinstance(uri, str) and _FILE.fullmatch(uri):
                yield uri


def _read(uri: str, flow: Path) -> bytes:
    match = _FILE.fullmatch(uri)
    name = match[1] if match else ""
    folder = flow.parent.resolve()
    file = (folder / name).resolve()
    if name.startswith("/") or not file.is_relative_to(folder):
        raise InvalidError(f"{flow}: {uri} is not in the folder of the flow file", reason="FLOW_FILE_MISSING")
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidError(f"{flow}: {uri}: {error.strerror}", reason="FLOW_FILE_MISSING") from None
    if len(content) > MAX_BYTES:
        raise InvalidError(f"{flow}: {uri} is larger than {MAX_BYTES} bytes", reason="FLOW_FILE_MISSING")
    return content
