"""Event IDs of several processes."""

from __future__ import annotations

import subprocess
import sys

FORK = """
import os
from flowhook.events import ids
ids.mint(7)
child = os.fork()
if child:
    os.waitpid(child, 0)
print(ids.mint(7, now_ms=1), flush=True)
"""


def test_a_forked_process_mints_other_ids():
    minted = subprocess.run([sys.executable, "-c", FORK], check=True, capture_output=True, text=True).stdout.split()
    assert len(set(minted)) == 2
