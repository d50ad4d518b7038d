"""The turns of real threads, as the kernel tells them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flowhook.process.kernel import SLICE_NS

TELLS = """
import ctypes, json, os, platform, struct, subprocess, sys, threading
from flowhook.process import kernel

TELL = '''
import ctypes, platform, struct
attributes = ctypes.create_string_buffer(48)
number = {"x86_64": 315, "aarch64": 275}[platform.machine()]
assert ctypes.CDLL(None).syscall(number, 0, attributes, 48, 0) == 0
_, _, _, nice, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", attributes.raw)
told.append((nice, runtime))
'''

os.nice(3)
told = []
exec(TELL)
taken = kernel.request_short_slice()
exec(TELL)
thread = threading.Thread(target=exec, args=(TELL, {"told": told}))
thread.start()
thread.join()
child = subprocess.run(
    [sys.executable, "-c", "told = []" + TELL + "print(*told[0])"], stdout=subprocess.PIPE, text=True, check=True
)
told.append([int(number) for number in child.stdout.split()])
print(json.dumps([taken, told]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the turns of Linux")
def test_turns_are_short_for_all_that_a_process_starts():
    command = subprocess.run([sys.executable, "-c", TELLS], stdout=subprocess.PIPE, text=True, check=True)
    taken, (before, *after) = json.loads(command.stdout)
    if not before[1]:
        pytest.skip("a kernel before 6.12")
    assert taken
    assert before[1] > SLICE_NS
    assert after == [[before[0], SLICE_NS]] * 3
