"""Flow files as commands take them: found, read and checked, with all faults of all files at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flowhook.document import FlowDocument, parse
from flowhook.errors import Fault, InvalidError, InvalidFlowError
from runner.component_names import component_names

SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class FlowFile:
    """A flow file that was checked."""

    name: str
    content: bytes
    document: FlowDocument


def read(paths: Sequence[Path]) -> list[FlowFile]:
    """Return the flows of files, and of directories: what ends like a flow file, by name, not what lies deeper.

    Blocking.

    Raises:
        InvalidFlowError: with every fault of every file.
        InvalidError: there is no such file, or no flow in it (`FLOW_FILE_MISSING`).
    """
    functions = component_names()
    files: list[FlowFile] = []
    faults: list[Fault] = []
    for path in _expand(paths):
        try:
            content = path.read_bytes()
            files.append(FlowFile(str(path), content, parse(content, file=str(path), functions=functions)))
        except InvalidFlowError as error:
            faults += error.faults
        except OSError as error:
            raise InvalidError(_unreadable(path, error), reason="FLOW_FILE_MISSING") from None
    faults += _duplicates(files)
    if faults:
        raise InvalidFlowError(faults)
    return files


def _expand(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file())
            if not inside:
                raise InvalidError(f"{path}: no *.yaml, *.yml or *.json in it", reason="FLOW_FILE_MISSING")
            found += inside
        else:
            found.append(path)
    return found


def _duplicates(files: Sequence[FlowFile]) -> list[Fault]:
    first: dict[str, str] = {}
    faults = []
    for file in files:
        earlier = first.setdefault(file.document.id, file.name)
        if earlier != file.name:
            faults.append(Fault(file.name, 0, "document", f"flow {file.document.id} is in {earlier} too"))
    return faults


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path}: {os.strerror(error.errno or 0)}"


def in_terms_of(error: InvalidFlowError, files: Sequence[FlowFile]) -> InvalidFlowError:
    """Return a router's refusal with the files' names in place of their positions in the request."""
    faults = []
    for fault in error.faults:
        index = int(fault.file) if fault.file.isdecimal() else len(files)
        name = files[index].name if index < len(files) else fault.file
        faults.append(Fault(name, fault.line, fault.key, fault.cause))
    return InvalidFlowError(faults)
