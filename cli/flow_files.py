"""Reads and checks flow files for commands, and collects the faults of all files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.flow_paths import find_flow_files, unreadable_message
from flowhook.document import FlowDocument, parse
from flowhook.document.diagnostics.problems import Code
from flowhook.errors import Fault, InvalidError, InvalidFlowError
from runner.component_names import component_names


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


def check_flow_files(paths: Sequence[Path]) -> tuple[list[FlowFile], list[Fault]]:
    """Return the flows of the files that have no faults, as `read_flow_files` does, and the faults of the others.

    Blocking.

    Raises:
        InvalidError: a file does not exist, or a directory has no flow file (`FLOW_FILE_MISSING`).
    """
    functions = component_names()
    files: list[FlowFile] = []
    faults: list[Fault] = []
    for path in find_flow_files(paths):
        try:
            content = path.read_bytes()
            files.append(FlowFile(str(path), content, parse(content, file=str(path), functions=functions)))
        except InvalidFlowError as error:
            faults += error.faults
        except OSError as error:
            raise InvalidError(unreadable_message(path, error), reason="FLOW_FILE_MISSING") from None
    duplicates = _duplicates(files)
    named = {fault.file for fault in duplicates}
    return [file for file in files if file.name not in named], [*faults, *duplicates]


def _duplicates(files: Sequence[FlowFile]) -> list[Fault]:
    first: dict[str, str] = {}
    faults = []
    for file in files:
        earlier = first.setdefault(file.document.id, file.name)
        if earlier != file.name:
            cause = f"flow {file.document.id} is in {earlier} too"
            faults.append(Fault(file.name, 0, "document", cause, Code.FLOW_DUPLICATE))
    return faults
