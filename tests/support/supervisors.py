"""A supervisor as a real process, its output read line by line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from support.patience import PATIENCE, wait_until

FOLDER = Path(__file__).parent.parent / "integration" / "cli"


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # also between opening and reading
        return False
    return state != "Z"


class Supervised:
    """A running supervisor."""

    def __init__(self, data_dir, plan, *, edges=1, runners=1, routers=1, nats=False):
        self.data_dir = data_dir
        self.plan = plan
        script = FOLDER / "supervise.py"
        self.process = subprocess.Popen(
            [sys.executable, script, data_dir, *map(str, (edges, runners, routers)), *(["nats"] if nats else [])],
            env={**os.environ, "CHILD_PLAN": str(plan)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []
        self.errors = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))
        stream.close()

    def until_said(self, text):
        wait_until(
            lambda: any(text in line for line in self.lines) or self.process.poll() is not None, f"says {text!r}"
        )
        assert any(text in line for line in self.lines), (self.lines, self.errors)

    def until_ready(self):
        self.until_said("ready http://")

    def pid(self, name):
        return int((self.data_dir / "run" / f"{name}.pid").read_text())

    def pids(self):
        return {path.stem: int(path.read_text()) for path in (self.data_dir / "run").glob("*.pid")}

    def events(self):
        path = self.plan / "events"
        return path.read_text().splitlines() if path.exists() else []

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def close(self):
        pids = self.pids()
        self.process.kill()
        self.wait()
        wait_until(lambda: not any(alive(pid) for pid in pids.values()), "children end")
