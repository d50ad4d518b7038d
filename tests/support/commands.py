"""The `flowhook` command as people and scripts run it, in a process of its own or in that of the tests."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import structlog
from support.patience import PATIENCE, wait_until

from cli.__main__ import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def rows(self):
        """What --json printed: one object a line, and nothing else."""
        return [json.loads(line) for line in self.out.splitlines()]


class _Terminal(io.TextIOWrapper):
    """A stream that says that a person types it."""

    def isatty(self):
        return True


def flowhook(*arguments, stdin="", terminal=False, merged=False, **environment):
    """Run a command to its end in this process: its imports cost more than most commands do.

    No variable of ours comes from the environment of the tests. For synchronous tests: a command has its own loop.
    `terminal`: whether a person seems to type `stdin`. `merged`: what it prints on stderr is in `out`, too.
    """
    streams = [(_Terminal if terminal else io.TextIOWrapper)(io.BytesIO(stdin.encode()), "utf-8")]
    streams += [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    if merged:
        streams[2] = streams[1]
    with (
        patch.dict(os.environ, clean_environment(**environment), clear=True),
        patch.multiple(sys, **dict(zip(("stdin", "stdout", "stderr"), streams, strict=True))),
        _logging_restored(),
    ):
        # in a context of its own: a command sets its --reason for all that follows in its process
        code = contextvars.copy_context().run(main, [str(argument) for argument in arguments])
    out, err = (stream.buffer.getvalue().decode() for stream in streams[1:])
    return Result(code, out, err)


@contextmanager
def _logging_restored():
    """Give back what commands set for the whole of their process."""
    root, configuration = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**configuration)


def flowhook_process(*arguments, stdin="", **environment):
    """Run a command to its end as its users do; no variable of ours comes from the environment of the tests."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", *map(str, arguments)],
        input=stdin,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def clean_environment(**environment):
    retained = {key: value for key, value in os.environ.items() if not key.startswith("FLOWHOOK_")}
    return retained | {key: str(value) for key, value in environment.items()}


class Up:
    """`flowhook up`, or another command that runs a cluster, on free ports, from its first line to its last."""

    def __init__(self, data_dir, *options, command="up", python=sys.executable, **environment):
        self.data_dir = data_dir
        ports = [word for name in ("http", "admin", "grpc") for word in (f"--{name}-port", "0")]
        self.process = subprocess.Popen(
            [python, "-P", "-m", "cli", command, "--data-dir", str(data_dir), *ports, *map(str, options)],
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if self.lines[-1] == "flowhook ready":
                return
        raise AssertionError((self.process.wait(), self.lines, self.process.stderr.read()))

    def next_line(self):
        """Return the next line that it prints; ends the test if there is none."""
        self.lines.append(self.process.stdout.readline().rstrip("\n"))
        assert self.lines[-1], self.process.poll()
        return self.lines[-1]

    @property
    def where(self):
        return json.loads((self.data_dir / "run" / "cluster.json").read_text())

    def run(self, *arguments, stdin="", terminal=False, **environment):
        return flowhook(*arguments, stdin=stdin, terminal=terminal, FLOWHOOK_DATA_DIR=self.data_dir, **environment)

    def stop(self):
        """Drain and return exit code, the lines since it was ready, and what stands on stderr."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.splitlines(), err

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=PATIENCE)


def send_event(cluster, flow, data, *options):
    """Send, and return the execution's ID."""
    result = cluster.run("send", flow, "--data", data, "--json", *options)
    assert result.code == 0, result
    return json.loads(result.rows[0]["body"])["id"]


def wait_for_end(cluster, execution_id):
    """Wait for an execution to end and return what `get --json` prints."""
    found = []

    def look():
        found[:] = cluster.run("executions", "get", execution_id, "--json").rows
        return found[0]["ended_at"] is not None

    wait_until(look, f"{execution_id} ends")
    return found[0]
