"""What the supervisor, which lives as long as the cluster, has in memory."""

from __future__ import annotations

import subprocess
import sys

SHOW = "import sys, cli.supervisor.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
LARGE = {
    "typer",
    "rich",
    "pydantic",
    "pydantic_settings",
    "grpc",
    "google",
    "tornado",
    "structlog",
    "yaml",
    "jsonschema",
}


def test_it_imports_nothing_large():
    done = subprocess.run([sys.executable, "-P", "-c", SHOW], capture_output=True, text=True, check=True)
    assert LARGE & set(done.stdout.split()) == set()
