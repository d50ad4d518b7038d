"""Commands of requirements-tools.lock, which have an environment of their own; `make test-release` makes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.prefix) / "tools" / "bin"


def tool(name, *arguments, **options):
    """Run a command of the tools, and return its output; the test is skipped where there are none."""
    if not (BIN / name).exists():
        pytest.skip("no tools: make test-release installs them")
    command = [str(each) for each in (BIN / name, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
