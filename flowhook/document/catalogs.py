"""Functions of catalogs: a flow that is applied contains those that it calls.

A `call` names one as `name:version@catalog`, or by the URL of its file. Whoever applies a flow fetches them
(`cli.embedding`) and appends them to the text of the flow file, as a second document in JSON: by name, where the
function is from and the text of its file. So a router needs no access to the network, and a revision does not change
when a catalog does. In the definition they are functions of `use.functions`; their metadata say where they are from.

Source: dsl.md, "Catalogs"; github.com/serverlessworkflow/catalog, "Structure".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from flowhook import limits
from flowhook.document.definition import NAME_PATTERN, SEMANTIC_VERSION_PATTERN, walk, walk_everywhere
from flowhook.document.diagnostics.problems import Code, Mark, Path, Problem, line_of
from flowhook.document.diagnostics.source import Source, read

DEFAULT: Final = "default"  # the catalog that a flow need not define
MAX_FUNCTIONS: Final = 32  # functions of catalogs that one flow calls, directly or through others
REFERENCE: Final = re.compile(
    rf"(?P<function>[a-z0-9-]{{1,63}}):(?P<version>{SEMANTIC_VERSION_PATTERN[1:-1]})@(?P<catalog>{NAME_PATTERN[1:-1]})"
)
ENDPOINT: Final = re.compile(r"https://[^\s?#{}@]+")
FILE_URL: Final = re.compile(r"https://[^\s?#]+\.(?:ya?ml|json)")
_SEPARATOR: Final = b"\n--- # functions of catalogs\n"


def is_cataloged(name: object) -> bool:
    """Whether a `call` names a function of a catalog, well-formed or not."""
    return isinstance(name, str) and ("@" in name or "://" in name)


def catalog_of(name: str) -> str:
    """Return the catalog that a function belongs to; of one that is named by its URL, the scheme and the host."""
    return "/".join(name.split("/", 3)[:3]) if "://" in name else name.rpartition("@")[2]


def cataloged_calls(tasks: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the functions of catalogs that a definition calls, each with the path of its `call`."""
    for placed in walk_everywhere(tasks):
        if is_cataloged(placed.task.get("call")):
            yield placed.task["call"], (*placed.path, "call")


def called_by(function: object) -> list[str]:
    """Return the functions of catalogs that a function calls."""
    tasks = walk({"do": [{"function": function}]})
    return [placed.task["call"] for placed in tasks if is_cataloged(placed.task.get("call"))]


def append(source: bytes, functions: Mapping[str, tuple[str, str]]) -> bytes:
    """Return the text of a flow with functions of catalogs: for each its URI, and the text of its file."""
    if not functions:
        return source
    written = {name: {"uri": uri, "text": text} for name, (uri, text) in functions.items()}
    return source + _SEPARATOR + orjson.dumps(written, option=orjson.OPT_INDENT_2) + b"\n"


def contains_functions(source: bytes) -> bool:
    return _SEPARATOR in source


def read_flow(source: bytes) -> Source:
    """Parse a flow file as `diagnostics.source.read` does, and put the functions that follow it in their place."""
    text, separator, appended = source.partition(_SEPARATOR)
    if not separator or len(source) > limits.MAX_DOCUMENT_BYTES:
        return read(source)
    flow = read(text)
    try:
        functions = {str(name): (str(each["uri"]), str(each["text"])) for name, each in orjson.loads(appended).items()}
    except (ValueError, TypeError, LookupError, AttributeError):
        line = text.count(b"\n") + 2
        flow.problems.append(
            Problem((), Code.FILE_INVALID, "a second document, which `flowhook apply` did not add", line)
        )
        return flow
    use = flow.data.setdefault("use", {}) if isinstance(flow.data, dict) else None
    own = use.setdefault("functions", {}) if isinstance(use, dict) else None
    if not isinstance(own, dict):
        return flow  # its shape is refused
    if len(functions) > MAX_FUNCTIONS:
        cause = f"a flow calls at most {MAX_FUNCTIONS} functions of catalogs"
        flow.problems.append(Problem(("use", "functions"), Code.VALUE_RANGE, cause))
    lines = {name: line_of(flow.root, path) for name, path in reversed([*cataloged_calls(flow.data)])}
    marks: dict[str | int, Mark] = {}
    for name, (uri, content) in functions.items():
        line = lines.get(name, flow.root.line)
        function, problems = _function(name, uri, content)
        flow.problems.extend(problem._replace(line=line) for problem in problems)
        own.setdefault(name, function)
        marks[name] = Mark(line)
    return flow._replace(root=_with_marks(flow.root, ("use", "functions"), marks))


def _function(name: str, uri: str, text: str) -> tuple[Any, list[Problem]]:
    data, _, problems = read(text.encode())
    located = [problem._replace(path=("use", "functions", name, *problem.path)) for problem in problems]
    if not isinstance(data, dict):
        return {"do": []} if problems else data, located  # the shape of others is refused
    metadata = data.get("metadata")
    catalog = {"uri": uri, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    data["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "catalog": catalog}
    return data, located


def _with_marks(mark: Mark, path: Path, marks: Mapping[str | int, Mark]) -> Mark:
    if not path:
        return Mark(mark.line, {**mark.members, **marks})
    inner = mark.members.get(path[0], Mark(mark.line))
    return Mark(mark.line, {**mark.members, path[0]: _with_marks(inner, path[1:], marks)})
