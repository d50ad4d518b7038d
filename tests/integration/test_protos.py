"""The gRPC API is compatible with its baseline; `make baseline` renews that when an incompatible change is meant."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).parents[2] / "protos"
BUF = Path(sys.executable).with_name("buf")


def breaking(protos):
    """Compare an API with the baseline, and return the exit code and what buf printed."""
    command = [BUF, "breaking", "--against", PROTOS / "baseline.binpb"]
    done = subprocess.run(command, cwd=protos, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def protos(tmp_path):
    return shutil.copytree(PROTOS, tmp_path / "protos")


def test_the_api_is_compatible_with_the_baseline():
    assert breaking(PROTOS) == (0, "")


@pytest.mark.parametrize(
    ("file", "changed", "to", "complaint"),
    [
        ("secret_service", r"  string name = 1;", "", 'Previously present field "1" with name "name"'),
        ("secret_service", r"string name = 1;", "string name = 9;", 'field "1" with name "name"'),
        ("secret_service", r"string name = 1;", "bytes name = 1;", 'changed type from "string" to "bytes"'),
        ("secret_service", r"  rpc DeleteSecret\(.*;", "", 'Previously present RPC "DeleteSecret"'),
    ],
    ids=["field removed", "field renumbered", "type changed", "method removed"],
)
def test_an_incompatible_change_is_refused(protos, file, changed, to, complaint):
    path = protos / "flowhook" / "v1" / f"{file}.proto"
    text, count = re.subn(changed, to, path.read_text())
    path.write_text(text)

    code, output = breaking(protos)

    assert count > 0
    assert code != 0
    assert complaint in output


def test_a_field_may_be_added(protos):
    path = protos / "flowhook" / "v1" / "secret_service.proto"
    path.write_text(path.read_text().replace("string name = 1;", "string name = 1;\n  string added = 99;"))
    assert breaking(protos) == (0, "")
