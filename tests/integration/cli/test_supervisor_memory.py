"""What the supervisor, which lives as long as the cluster, has in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import Up

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


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel does not tell")
def test_up_becomes_it_and_keeps_its_process_id_and_what_people_look_for(tmp_path):
    up = Up(tmp_path / "data")
    try:
        process = Path(f"/proc/{up.process.pid}")
        assert up.where["pid"] == up.process.pid
        assert b"flowhook\0up\0" in (process / "cmdline").read_bytes()
        rollup = (process / "smaps_rollup").read_text()
        private = sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE)))
        assert private < 25 * 1024
        assert up.stop()[0] == 0
    finally:
        up.close()
