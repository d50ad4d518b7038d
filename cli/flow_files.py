"""Finds, reads and checks flow files for commands, and prints the problems of all of them.

Problems are printed for people as compilers do, `FILE:LINE: KEY: TEXT`, for programs as JSON.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowhook import limits
from flowhook.errors import Fault, InvalidError, InvalidFlowError

if TYPE_CHECKING:
    from flowhook.document.loader import FlowDocument

SUFFIXES: Final = (".yaml", ".yml", ".json")
# what is applied in one call, all of it or none: as many documents as a router takes, and of such a size that the
# answer, which has each flow with its definition, fits into a message
PART_FILES: Final = 1000
PART_BYTES: Final = limits.MAX_MESSAGE_BYTES // 4
PROGRESS_SECONDS: Final = 2.0  # between two reports of progress
_UNSET: Final = re.compile(r"secret (\S+) is not set")


@dataclass(frozen=True, slots=True)
class FlowFile:
    """A valid flow file."""

    name: str
    content: bytes
    document: FlowDocument


def read_flow_files(paths: Sequence[Path]) -> list[FlowFile]:
    """Return the flows of files and directories; of a directory, the flow files directly in it, sorted by name.

    Blocking.

    Raises:
        InvalidFlowError: a file has faults; contains every fault of every file.
        InvalidError: a file does not exist, or a directory has no flow file (`FLOW_FILE_MISSING`).
    """
    files, faults = check_flow_files(paths)
    if faults:
        raise InvalidFlowError(faults)
    return files


def check_flow_files(
    paths: Sequence[Path], unreached: dict[str, Fault] | None = None, *, fetches: bool = True
) -> tuple[list[FlowFile], list[Fault]]:
    """Return the flows of the files that have no faults, as `read_flow_files` does, and the faults of the others.

    With `unreached`, functions of catalogs that can't be reached are put there, and taken as they are called; so are
    all of them unless it `fetches`.
    """
    contents: dict[str, bytes] = {}
    unreadable: list[Fault] = []
    for path in find_flow_files(paths):
        try:
            contents[str(path)] = read_flow_file(path, unreached, fetches=fetches)
        except InvalidFlowError as error:
            unreadable += error.faults
    files, faults = check_contents(contents, unreached or ())
    return files, [*unreadable, *faults]


def check_contents(contents: Mapping[str, bytes], named: Collection[str] = ()) -> tuple[list[FlowFile], list[Fault]]:
    """Return the same of the contents of files, by their names; `named` are functions that they may call besides."""
    from flowhook.document.diagnostics.problems import Code
    from flowhook.document.loader import parse
    from runner.component_names import component_names

    functions = component_names().union(named)
    files: list[FlowFile] = []
    faults: list[Fault] = []
    progress = Progress("checked", len(contents))
    for name, content in contents.items():
        progress.advance(1)
        try:
            files.append(FlowFile(name, content, parse(content, file=name, functions=functions)))
        except InvalidFlowError as error:
            faults += error.faults
    first: dict[str, str] = {}
    duplicates = set()
    for file in files:
        earlier = first.setdefault(file.document.id, file.name)
        if earlier != file.name:
            cause = f"flow {file.document.id} is in {earlier} too"
            faults.append(Fault(file.name, 0, "document", cause, Code.FLOW_DUPLICATE))
            duplicates.add(file.name)
    return [file for file in files if file.name not in duplicates], faults


def parts(contents: Sequence[bytes]) -> Iterator[slice]:
    """Yield which contents of files to apply in one call: at most `PART_FILES`, and `PART_BYTES` if several."""
    start = size = 0
    for at, content in enumerate(contents):
        if at > start and (at - start == PART_FILES or size + len(content) > PART_BYTES):
            yield slice(start, at)
            start, size = at, 0
        size += len(content)
    if start < len(contents):
        yield slice(start, len(contents))


@dataclass(slots=True)
class Progress:
    """Prints on stderr how many of some files something was done with, if it takes long."""

    done: str  # what is done, as a participle
    files: int
    _count: int = field(init=False, default=0)
    _reported: float = field(init=False, default_factory=time.monotonic)

    def advance(self, files: int) -> None:
        self._count += files
        now = time.monotonic()
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            print(f"{self.done} {self._count} of {self.files} files", file=sys.stderr, flush=True)


def find_flow_files(paths: Sequence[Path]) -> list[Path]:
    """Return files, and of each directory the flow files directly in it, sorted by name. Blocking."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = list_directory(path)
            if not inside:
                raise InvalidError(f"{path}: contains no *.yaml, *.yml or *.json file", reason="FLOW_FILE_MISSING")
            found += inside
        else:
            found.append(path)
    return found


def list_directory(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file())


def read_content(path: Path) -> bytes:
    """Return the content of a file; of one that is larger than a flow may be, as much as is refused. Blocking."""
    with path.open("rb") as file:
        return file.read(limits.MAX_DOCUMENT_BYTES + 1)


def read_flow_file(path: Path, unreached: dict[str, Fault] | None = None, *, fetches: bool = True) -> bytes:
    """Return the content of a file, with the files and functions it names (`embedding`). Blocking.

    Raises:
        InvalidFlowError: one of them can't be read.
        InvalidError: the file can't be read (`FLOW_FILE_MISSING`).
    """
    from cli.embedding import add_functions, embed

    try:
        content = read_content(path)
    except OSError as error:
        raise InvalidError(f"{path}: {os.strerror(error.errno or 0)}", reason="FLOW_FILE_MISSING") from None
    return add_functions(embed(content, path), path, unreached, fetches=fetches)


@contextmanager
def named_files(names: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except InvalidFlowError as error:
        positions = {str(index): name for index, name in enumerate(names)}
        faults = [replace(fault, file=positions.get(fault.file, fault.file)) for fault in error.faults]
        raise InvalidFlowError(faults) from None


def print_problems(errors: Sequence[Fault], warnings: Sequence[Fault] = (), *, json: bool) -> None:
    from cli.output import print_json

    if not json:
        for text in (*map(str, errors), *map(format_warning, warnings)):
            print(text, file=sys.stderr)
        return
    for severity, faults in (("error", errors), ("warning", warnings)):
        for each in faults:
            print_json({**asdict(each), "severity": severity})


def format_warning(fault: Fault) -> str:
    where = f"{fault.file}:{fault.line}" if fault.line else fault.file
    return ": ".join(filter(None, (where, "warning", fault.key, fault.cause)))


def unset_secret(fault: Fault) -> str:
    """Return the name of the secret that a warning says is not set; empty: it is about something else."""
    found = _UNSET.match(fault.cause)
    return found[1] if found else ""
