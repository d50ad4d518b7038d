"""Files beside a flow file that describe its calls: a flow that is applied contains them.

The URI of a file, `file://orders.proto`, is replaced in the text of the flow by one that contains it: the lines of the
text stay, and what runners execute does not change with the file.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, Final

from flowhook import limits
from flowhook.document.definition import POLICIES, value_at, walk_everywhere
from flowhook.document.diagnostics import source
from flowhook.document.diagnostics.problems import Code, Path, Problem, mark_of, to_fault
from flowhook.document.models.calls import EMBEDDED
from flowhook.errors import Fault, InvalidError, InvalidFlowError

MAX_BYTES: Final = 128 * limits.KIB  # one file; a flow file has at most `limits.MAX_DOCUMENT_BYTES` with all of them
DOCUMENTS: Final = ("asyncapi", "grpc", "openapi")  # functions whose document may be a file
_FILE: Final = re.compile(r"file:(?://)?([^?#]+)", re.IGNORECASE)


def embed(content: bytes, path: FilePath) -> bytes:
    """Return the text of a flow file with the files that it names, which are in its folder, or below. Blocking.

    Raises:
        InvalidFlowError: a file does not exist, is elsewhere, or is too large.
    """
    if b"file:" not in content.lower():
        return content
    flow = source.read(content)
    if not isinstance(flow.data, dict):
        return content
    text, faults = content.decode(), list[Fault]()
    found = {mark_of(flow.root, place).span: (place, uri) for place, uri in _uris(flow.data)}
    for (start, end), (place, uri) in sorted(found.items(), reverse=True):
        try:
            embedded = EMBEDDED + base64.urlsafe_b64encode(read_beside(uri, path)).decode().rstrip("=")
        except InvalidError as error:
            faults.append(to_fault(Problem(place, Code.URI_INVALID, error.message), file=str(path), root=flow.root))
        else:
            written = text[start:end]  # with its quotes and its anchor, or an alias
            text = text[:start] + (written.replace(uri, embedded) if uri in written else embedded) + text[end:]
    if faults:
        raise InvalidFlowError(faults[::-1])
    return text.encode()


def _uris(definition: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for placed in walk_everywhere(definition):
        function = placed.task.get("call")
        if function in DOCUMENTS:
            keys = ("with", *POLICIES[function][0][:-1])
            if isinstance(value_at(placed.task, keys), Mapping):
                keys = (*keys, "uri")
            uri = value_at(placed.task, keys)
            if isinstance(uri, str) and _FILE.fullmatch(uri):
                yield (*placed.path, *keys), uri


def read_beside(uri: str, flow: FilePath) -> bytes:
    """Return the content of a file in the folder of a flow file, or below it. Blocking.

    Raises:
        InvalidError: it does not exist, is elsewhere, or is too large.
    """
    match = _FILE.fullmatch(uri)
    name = match[1] if match else uri
    folder = flow.parent.resolve()
    file = (folder / name).resolve()
    if name.startswith("/") or not file.is_relative_to(folder):
        raise InvalidError(f"{uri} is not in the folder of the flow file")
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidError(f"{uri}: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise InvalidError(f"{uri} is larger than {MAX_BYTES} bytes")
    return content
