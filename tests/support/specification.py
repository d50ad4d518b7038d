"""The conformance kit and the examples of the specification, as they are published, where there is a copy of them.

The copy is a clone, or a directory with `ctk/` and `examples/` of the commit: the one that the environment variable
`OPEN_WORKFLOW_SPECIFICATION` names, else `tests/vendor/open-workflow-specification`, if that is there.

Source: github.com/open-workflow-specification/specification, Apache License 2.0.
"""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMIT = "4d42471f555a6ccecf1946db9858bbf8b1ce2b43"
DATE = "2026-07-29"

_VENDORED = Path(__file__).parents[1] / "vendor" / "open-workflow-specification"
_NAMED = os.environ.get("OPEN_WORKFLOW_SPECIFICATION")
COPY = Path(_NAMED) if _NAMED else _VENDORED if _VENDORED.is_dir() else None

needs_copy = pytest.mark.skipif(COPY is None, reason="OPEN_WORKFLOW_SPECIFICATION names no copy of the specification")


def examples() -> dict[str, bytes]:
    """Return the examples by the names of their files, without the suffix."""
    return {Path(name).stem: text for name, text in _files("examples/", ".yaml")}


def scenarios() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Yield feature, title and steps of each scenario of the kit: a step's line, and the YAML below it, if any."""
    for name, text in _files("ctk/features/", ".feature"):
        for scenario in re.split(r"^  Scenario: ", text.decode(), flags=re.MULTILINE)[1:]:
            title, _, rest = scenario.partition("\n")
            steps = re.findall(
                r'^ *((?:Given|And|When|Then) [^\n]*)$(?:\n *"""yaml\n(.*?)\n *""")?',
                rest,
                flags=re.MULTILINE | re.DOTALL,
            )
            yield Path(name).stem, title.strip(), [(line, textwrap.dedent(block)) for line, block in steps]


def schema(revision: str = COMMIT) -> bytes | None:
    """Return the JSON Schema (YAML) of a workflow; None: the copy does not have that revision."""
    assert COPY is not None
    try:
        return _git("show", f"{revision}:schema/workflow.yaml")
    except subprocess.CalledProcessError:
        path = COPY / "schema" / "workflow.yaml"
        return path.read_bytes() if revision == COMMIT and path.exists() else None


def _files(folder: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    assert COPY is not None
    if (COPY / folder).is_dir():
        found = [(path.name, path.read_bytes()) for path in (COPY / folder).iterdir()]
    else:
        names = _git("ls-tree", "--name-only", "-z", COMMIT, folder).decode().split("\0")
        found = [(name, _git("show", f"{COMMIT}:{name}")) for name in names if name]
    yield from sorted((name, text) for name, text in found if name.endswith(suffix))


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(COPY), *arguments], check=True, capture_output=True).stdout
