"""The tables of the suite name files that are there, and units are alone."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from support.suite import GROUPS, ORDER, RELEASE, UNITS

ROOT = Path(__file__).parents[2]


def test_each_path_is_one_of_tests():
    assert [path for path in (*GROUPS, *ORDER, *RELEASE, *UNITS) if not (ROOT / path.partition("::")[0]).exists()] == []


def test_a_unit_starts_no_process_and_opens_no_socket():
    with pytest.raises(AssertionError, match=r"subprocess\.Popen: move it to tests/integration"):
        subprocess.run(["true"], check=True)
    with socket.socket() as refused:
        with pytest.raises(AssertionError, match=r"socket\.bind"):
            refused.bind(("127.0.0.1", 0))
        with pytest.raises(AssertionError, match=r"socket\.connect"):
            refused.connect(("127.0.0.1", 1))
