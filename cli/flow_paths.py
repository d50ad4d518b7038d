"""Finds flow files, and names them in messages; `flow_files` reads their contents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from flowhook.errors import InvalidError, InvalidFlowError

SUFFIXES: Final = (".yaml", ".yml", ".json")


def find_flow_files(paths: Sequence[Path]) -> list[Path]:
    """Return files, and of each directory the flow files directly in it, sorted by name. Blocking.

    Raises:
        InvalidError: there is no flow file in a directory (`FLOW_FILE_MISSING`).
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file())
            if not inside:
                raise InvalidError(f"{path}: contains no *.yaml, *.yml or *.json file", reason="FLOW_FILE_MISSING")
            found += inside
        else:
            found.append(path)
    return found


def unreadable_message(path: Path, error: OSError) -> str:
    """Return the message for a file that can't be read."""
    return f"{path}: {os.strerror(error.errno or 0)}"


def with_file_names(error: InvalidFlowError, names: Sequence[str]) -> InvalidFlowError:
    """Return a router's error with the names of the files instead of their positions in the request."""
    faults = []
    for fault in error.faults:
        index = int(fault.file) if fault.file.isdecimal() else len(names)
        name = names[index] if index < len(names) else fault.file
        faults.append(replace(fault, file=name))
    return InvalidFlowError(faults)
