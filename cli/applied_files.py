"""Remembers the flow files that `flowhook up` applied, so that a restart does not revert later changes of the flows.

`<data-dir>/applied-flows.json` has, for each file, the hash of its content and the flow and the revision that it
became. A file that is as it was then, of a flow that has a later revision now, is left alone: somebody has edited the
flow in the console, or applied another file. A file that has changed is applied in any case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

from flowhook.security.private_files import write_private

NAME: Final = "applied-flows.json"


@dataclass(frozen=True, slots=True)
class AppliedFile:
    """A file as it was applied."""

    sha256: str
    flow: str
    revision: int

    @classmethod
    def of(cls, content: bytes, flow_id: str, revision: int) -> AppliedFile:
        """Describe a file that was just applied."""
        return cls(_digest(content), flow_id, revision)

    def is_superseded(self, content: bytes, revisions: Mapping[str, int]) -> bool:
        """Whether the flow was changed after the file was applied, and the file was not.

        Args:
            content: of the file, now.
            revisions: the latest revision of each flow that exists; a flow that was deleted is applied again.
        """
        return self.sha256 == _digest(content) and revisions.get(self.flow, 0) > self.revision


def read_applied_files(data_dir: Path) -> dict[str, AppliedFile]:
    """Return the files by their paths; none, if it is not known. Blocking."""
    try:
        return {path: AppliedFile(**each) for path, each in orjson.loads((data_dir / NAME).read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_applied_files(data_dir: Path, files: Mapping[str, AppliedFile]) -> None:
    """Remember the files. Blocking.

    Raises:
        OSError: the file can't be written.
    """
    write_private(data_dir / NAME, orjson.dumps({path: asdict(each) for path, each in files.items()}) + b"\n")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
