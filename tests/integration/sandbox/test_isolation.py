"""What a process has left that works on what strangers sent."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

ISOLATED = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from flowhook.sandbox.process import isolate
link = isolate(int(sys.argv[1]), 1 << 30)
seen = [int(sys.argv[number]) for number in (1, 2)]
link.sendall(repr([os.environ.copy(), [os.path.exists(f"/proc/self/fd/{{each}}") for each in seen]]).encode())
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="where open descriptors are listed")
def test_it_has_no_environment_and_nothing_open_but_its_socket():
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    try:
        for descriptor in (theirs.fileno(), writing):
            os.set_inheritable(descriptor, True)
        command = [sys.executable, "-c", ISOLATED, str(theirs.fileno()), str(writing)]
        subprocess.run(command, check=True, close_fds=False)
        assert ours.recv(1000).decode() == "[{}, [True, False]]"
    finally:
        ours.close()
        theirs.close()
        os.close(reading)
        os.close(writing)
