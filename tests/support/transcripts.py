"""Commands in the docs, with what they print: blocks of lines that begin with `$ ` and of the lines below them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from support.commands import clean_environment
from support.patience import PATIENCE

DOCUMENTED_URL = "http://127.0.0.1:8080"
RENEW = "FLOWHOOK_RENEW_DOCS" in os.environ
"""Whether pages get what their commands print now, instead of being compared with it."""

_VARYING = [
    (re.compile(r"\b[a-z]{3}_01[0-9a-z]{24}\b"), "ID"),
    (re.compile(r"\b01[0-9a-z]{24}\.[\w.-]+"), "TOKEN"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIME"),
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"^Date: .*", re.MULTILINE), "Date: TIME"),
    (re.compile(r"\b[\d.]+ m?s\b"), "DURATION"),
    (re.compile(r"(?<=/login#)[\w-]+"), "TOKEN"),
    (re.compile(r"^ID: (?:pending|running), .*\n", re.MULTILINE), ""),
    (re.compile(r"\(\d+ (?:not ended|completed)\)"), "(ENDED)"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
]


class Command(NamedTuple):
    line: str
    """As it is typed, without the prompt; may have several lines."""

    printed: str
    """What the page says that it prints, on stdout and stderr."""


def commands(text):
    """Return the commands of a block; what stands before the first is none of them."""
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        end = next(number for number in range(1, len(lines) + 1) if _is_whole("".join(lines[:number])))
        found.append(Command("".join(lines[:end]).rstrip("\n"), "".join(lines[end:])))
    return found


def _is_whole(text):
    try:
        shlex.split(text)
    except ValueError:
        return False
    return not text.endswith("\\\n")


class Shell:
    """Runs commands of pages in a folder, with `flowhook` on PATH; `replaced` is what stands in pages, and is meant."""

    def __init__(self, folder, replaced, **environment):
        self._folder, self._replaced = folder, replaced
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = clean_environment(PATH=path, COLUMNS=200, **environment)

    def run(self, line):
        """Return what a command prints, in the words of the page."""
        for shown, meant in self._replaced.items():
            line = line.replace(shown, meant)
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        printed = done.stdout
        for shown, meant in self._replaced.items():
            printed = printed.replace(meant, shown)
        return printed if not printed or printed.endswith("\n") else printed + "\n"

    def check(self, block):
        """Run the commands of a block and compare; with `RENEW`, return it with what they print."""
        renewed = []
        for command in commands(block):
            printed = self.run(command.line)
            renewed.append(f"$ {command.line}\n{printed}")
            if not RENEW:
                assert constant(printed) == constant(command.printed), command.line
        return "".join(renewed)


def constant(text):
    """Return a text without what differs from run to run: IDs, times, durations, the widths of columns."""
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text
