"""Files beside a flow file that describe its calls, and functions of catalogs: a flow that is applied contains them.

The URI of a file, `file://orders.proto`, is replaced in the text of the flow by one that contains it: the lines of the
text stay, and what runners execute does not change with the file.

Functions of catalogs are appended (`flowhook.document.catalogs`). Their files are fetched as they are from below the
endpoint of a catalog, or from a Git host that it is a page of; or they are read from an archive, `.tar.gz`, as Git
hosts make of a repository. The catalog `default` is the folder `functions` beside the flow file, unless a flow defines
another one. Only https is used, also after redirects.

Source: dsl.md, "File Structure", "Default Catalog".
"""

from __future__ import annotations

import base64
import io
import re
import ssl
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from typing_extensions import override

from flowhook import limits
from flowhook.asyncio_tasks import run_in_daemon
from flowhook.document import catalogs
from flowhook.document.definition import POLICIES, value_at, walk_everywhere
from flowhook.document.diagnostics import source
from flowhook.document.diagnostics.problems import Code, Problem, mark_of, to_fault
from flowhook.document.diagnostics.problems import Path as KeyPath
from flowhook.document.models.calls import EMBEDDED
from flowhook.errors import Fault, InvalidError, InvalidFlowError, UnavailableError
from flowhook.expressions.syntax import is_expression

MAX_BYTES: Final = 128 * limits.KIB  # one file; a flow file has at most `limits.MAX_DOCUMENT_BYTES` with all of them
DOCUMENTS: Final = ("asyncapi", "grpc", "openapi")  # functions whose document may be a file
_FILE: Final = re.compile(r"file:(?://)?([^?#]+)", re.IGNORECASE)


def embed(content: bytes, path: Path) -> bytes:
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


def _uris(definition: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for placed in walk_everywhere(definition):
        function = placed.task.get("call")
        if function in DOCUMENTS:
            keys = ("with", *POLICIES[function][0][:-1])
            if isinstance(value_at(placed.task, keys), Mapping):
                keys = (*keys, "uri")
            uri = value_at(placed.task, keys)
            if isinstance(uri, str) and _FILE.fullmatch(uri):
                yield (*placed.path, *keys), uri


def read_beside(uri: str, flow: Path) -> bytes:
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


MAX_ARCHIVE_BYTES: Final = 32 * limits.MIB
MAX_UNPACKED_BYTES: Final = 64 * limits.MIB
MAX_ARCHIVED_FILES: Final = 20_000
MAX_REDIRECTS: Final = 5
SECONDS: Final = 60.0  # for one file or archive; 10 of them for each read
_GZIP: Final = 16  # added to the window of zlib: the format is gzip
_CHUNK: Final = 64 * limits.KIB
_ARCHIVES: Final = (".tar.gz", ".tgz")
_MENTION: Final = re.compile(rb"[\w-]:\d[\w.+-]*@|https://[^\s?#]+\.(?:ya?ml|json)")
_GITHUB: Final = re.compile(r"https://github\.com/(?P<project>[^/]+/[^/]+)(?:/(?:tree|blob)/(?P<rest>.+))?")
_GITLAB: Final = re.compile(r"https://gitlab\.com/[^/]+(?:/[^/-][^/]*)+")
_FUNCTION: Final = re.compile(r"(?:\./)?(?:[^/]+/)?(functions/[^/]+/[^/]+/function\.yaml)")  # one folder around it all


def may_fetch(content: bytes) -> bool:
    """Whether functions may be fetched for the text of a flow file."""
    return not catalogs.contains_functions(content) and _MENTION.search(content) is not None


def add_functions(
    content: bytes, path: Path, unreached: dict[str, Fault] | None = None, *, fetches: bool = True
) -> bytes:
    """Return the text of a flow file with the functions of catalogs that it calls, and these call. Blocking.

    A text that has them already stays as it is. With `unreached`, functions that the network or their server keeps from
    being fetched are put there by name, and left out; none is fetched unless it `fetches`.

    Raises:
        InvalidFlowError: functions can't be fetched, or are not what they should be.
    """
    if not may_fetch(content):
        return content
    flow = source.read(content)
    if not isinstance(flow.data, dict):
        return content
    found: dict[str, tuple[str, str] | None] = {}
    faults: list[Fault] = []
    away: dict[str, UnavailableError] = {}  # by catalog: others of its functions would wait as long
    find = _find if fetches else _find_later
    calls = [*catalogs.cataloged_calls(flow.data)]
    for name, place in calls:  # those that functions call are added to it
        if name in found or len(found) > catalogs.MAX_FUNCTIONS:  # one too many, which `parse` refuses
            continue
        found[name] = None
        catalog = catalogs.catalog_of(name)
        try:
            if catalog in away:
                raise away[catalog]
            found[name] = find(name, flow.data, path)
        except (InvalidError, UnavailableError) as error:
            if isinstance(error, UnavailableError):
                away[catalog] = error
            fault = to_fault(Problem(place, Code.FUNCTION_NOT_FETCHED, error.message), file=str(path), root=flow.root)
            if unreached is not None and isinstance(error, UnavailableError):
                unreached[name] = fault
            else:
                faults.append(fault)
        calls += [(called, place) for called in _called_by(found[name])]
    if faults:
        raise InvalidFlowError(faults)
    return catalogs.append(content, {name: function for name, function in found.items() if function is not None})


def _called_by(function: tuple[str, str] | None) -> list[str]:
    return catalogs.called_by(source.read(function[1].encode()).data) if function else []


def _find(name: str, flow: Mapping[str, Any], path: Path) -> tuple[str, str] | None:
    """Return the URI of a function and the text of its file; None: the flow has it, or `parse` refuses it."""
    if name in (value_at(flow, ("use", "functions")) or ()):
        return None
    if catalogs.FILE_URL.fullmatch(name):
        return raw_url(name), _text(name, fetch(raw_url(name), "", MAX_BYTES))
    reference = catalogs.REFERENCE.fullmatch(name)
    if reference is None:
        return None
    file = f"functions/{reference['function']}/{reference['version']}/function.yaml"
    endpoint = value_at(flow, ("use", "catalogs", reference["catalog"], "endpoint"))
    uri: Any = endpoint.get("uri") if isinstance(endpoint, Mapping) else endpoint
    if uri is None and reference["catalog"] == catalogs.DEFAULT:
        return file, _text(name, read_beside(file, path))
    if not isinstance(uri, str) or not catalogs.ENDPOINT.fullmatch(uri):
        return None
    authorization = _authorization(endpoint, flow)
    if uri.endswith(_ARCHIVES):
        content = unpack(uri, authorization).get(file)
        if content is None:
            raise InvalidError(f"{uri} has no {file}")
        return f"{uri}#{file}", _text(name, content)
    uri = f"{raw_url(uri).rstrip('/')}/{file}"
    return uri, _text(name, fetch(uri, authorization, MAX_BYTES))


def _find_later(_name: str, _flow: Mapping[str, Any], _path: Path) -> None:
    raise UnavailableError("it is fetched later")


def raw_url(url: str) -> str:
    """Return the URL at which a Git host has the content of what a page of a repository shows; others as they are."""
    if github := _GITHUB.fullmatch(url.rstrip("/")):
        return f"https://raw.githubusercontent.com/{github['project']}/{github['rest'] or 'HEAD'}"
    if _GITLAB.fullmatch(url.rstrip("/")):
        return f"{url.rstrip('/')}/-/raw/HEAD"
    return re.sub("/-/(tree|blob)/", "/-/raw/", url, count=1)


def _authorization(endpoint: Any, flow: Mapping[str, Any]) -> str:
    policy: Any = value_at(endpoint, ("authentication",))
    named = value_at(policy, ("use",))
    policy = value_at(flow, ("use", "authentications", named)) if isinstance(named, str) else policy
    match policy:
        case None:
            return ""
        case {"basic": {"username": str(name), "password": str(password)}} if not (
            is_expression(name) or is_expression(password)
        ):
            return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        case {"bearer": {"token": str(token)}} if not is_expression(token):
            return f"Bearer {token}"
    cause = (
        "functions are fetched where the flow is applied, which has no secrets: "
        "authentication is `basic` or `bearer`, as literal values"
    )
    raise InvalidError(cause)


def _text(name: str, content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise InvalidError(f"{name} is larger than {MAX_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidError(f"{name} is not valid UTF-8") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only; another host does not get the credentials."""

    max_redirections = MAX_REDIRECTS

    @override
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise InvalidError(f"{req.full_url} redirects to {newurl[:200]}, which is not https")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


@cache  # several functions may be in one archive, and several flows may call one function
def fetch(url: str, authorization: str, limit: int) -> bytes:
    """Return what is at a URL, in so many seconds also if a server sends the headers byte by byte. Blocking."""
    try:
        return run_in_daemon(_fetch, url, authorization, limit).result(SECONDS)
    except TimeoutError:
        raise UnavailableError(f"{url} took more than {SECONDS:.0f} s") from None


def _fetch(url: str, authorization: str, limit: int) -> bytes:
    headers = {"User-Agent": "flowhook", "Accept": "*/*"} | ({"Authorization": authorization} if authorization else {})
    opener = urllib.request.build_opener(_Redirects, urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    deadline, received = time.monotonic() + SECONDS, bytearray()
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=10.0) as answer:  # noqa: S310 - https
            while chunk := answer.read1(_CHUNK):
                received += chunk
                if len(received) > limit:
                    raise InvalidError(f"{url} is larger than {limit} bytes")
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{url} took more than {SECONDS:.0f} s")
    except urllib.error.HTTPError as error:
        with error:
            kind = InvalidError if error.code == HTTPStatus.NOT_FOUND else UnavailableError
            raise kind(f"{url} answered {error.code}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise UnavailableError(f"{url} can't be reached: {reason}") from None
    except ValueError:  # whose text may be that of the credentials
        raise InvalidError(f"{url} can't be fetched: it, its credentials or a redirect are malformed") from None
    return bytes(received)


@cache
def unpack(url: str, authorization: str) -> dict[str, bytes]:
    """Return the functions in an archive by their paths; only regular files are read, and none is written."""
    packed = fetch(url, authorization, MAX_ARCHIVE_BYTES)
    found: dict[str, bytes] = {}
    try:
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | _GZIP)
        plain = unpacking.decompress(packed, MAX_UNPACKED_BYTES)
        if unpacking.unconsumed_tail:
            raise InvalidError(f"{url} is larger than {MAX_UNPACKED_BYTES} bytes, unpacked")
        if not unpacking.eof:
            raise EOFError("it is cut off")  # noqa: TRY301 - as one of `tarfile`
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as members:
            for number, member in enumerate(members):
                if number == MAX_ARCHIVED_FILES:
                    raise InvalidError(f"{url} has more than {MAX_ARCHIVED_FILES} files")
                path = _FUNCTION.fullmatch(member.name)
                content = members.extractfile(member) if path and member.isreg() else None
                if path and content is not None:
                    found[path[1]] = content.read(MAX_BYTES + 1)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InvalidError(f"{url} is not a .tar.gz archive: {error}") from None
    return found
