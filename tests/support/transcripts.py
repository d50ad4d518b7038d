"""Commands in the docs, with what they print: blocks of lines that begin with `$ ` and of the lines below them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from support.commands import clean_environment
from support.patience import PATIENCE

DOCUMENTED_URL = "http://127.0.0.1:8080"
RENEW = "FLOWHOOK_RENEW_DOCS" in os.environ
"""Whether pages get what their commands print now, instead of being compared with it."""

_ID = re.compile(r"\b[a-z]{3}_01[0-9a-z]{24}\b")
SHOWS = re.compile(r"flowhook \w+ (?:list|revisions)\b")
"""What only shows something, which may be so later."""

_RENEWAL = 8.0
"""Seconds after which a list is as it is to be shown."""

_VARYING = [
    (_ID, "ID"),
    (re.compile(r"fhk_[\w-]+"), "TOKEN"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "TIME"),
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
    """Runs commands of pages in a folder, with `flowhook` of a folder on PATH.

    `replaced` is what pages say, and what is meant. An ID that a page shows stands for the one that was printed there.
    """

    def __init__(self, folder, replaced, *, binaries=Path(sys.executable).parent):
        self.replaced = dict(replaced)
        self._folder = folder
        self._ids = {}
        self._background = []
        path = os.pathsep.join([str(binaries), os.environ["PATH"]])
        self._environment = clean_environment(PATH=path, COLUMNS=200)

    def run(self, line):
        """Return what a command prints, in the words of the page; one that ends with `&` runs until `close`."""
        line = self.meant(line)
        options = {"cwd": self._folder, "env": self._environment, "stderr": subprocess.STDOUT, "text": True}
        if line.endswith("&"):
            command = ["bash", "-c", f"exec {line.removesuffix('&')}"]
            self._background.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, **options))
            return ""
        command = ["bash", "-c", line]
        return self.shown(
            subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE, check=False, **options).stdout
        )

    def meant(self, line):
        for shown, meant in [*self.replaced.items(), *self._ids.items()]:
            line = line.replace(shown, meant)
        return line

    def shown(self, printed):
        for shown, meant in self.replaced.items():
            printed = printed.replace(meant, shown)
        return printed if not printed or printed.endswith("\n") else printed + "\n"

    def check(self, block):
        """Run the commands of a block and compare; with `RENEW`, return it with what they print.

        A list is asked for until it is as the page says.
        """
        renewed = []
        for command in commands(block):
            printed = self.run(command.line)
            if RENEW:
                if SHOWS.search(command.line):
                    time.sleep(_RENEWAL)
                    printed = self.run(command.line)
                renewed.append(f"$ {command.line}\n{printed}")
            else:
                deadline = time.monotonic() + PATIENCE
                while constant(printed) != constant(command.printed):
                    assert SHOWS.search(command.line), f"{command.line}\n{printed}"
                    assert time.monotonic() < deadline, f"{command.line}\n{printed}"
                    printed = self.run(command.line)
            self.learn(command.printed, printed)
        return "".join(renewed)

    def learn(self, told, printed):
        """Take IDs that a page tells for those that were printed there."""
        self._ids.update(zip(_ID.findall(told), _ID.findall(printed), strict=False))

    def told(self, printed):
        """Return what was printed with the IDs that the page has."""
        for shown, meant in self._ids.items():
            printed = printed.replace(meant, shown)
        return printed

    def stands_for(self, shown, meant):
        """Take an ID that a page shows for another one."""
        self._ids[shown] = meant

    def close(self):
        """End what runs in the background."""
        for process in self._background:
            process.kill()
            process.wait()


def constant(text):
    """Return a text without what differs from run to run: IDs, times, durations, the widths of columns."""
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text
