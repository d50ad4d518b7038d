"""Commands that pages for people in a hurry name, in sentences too, are there, with the options that are given."""

from __future__ import annotations

import re
from functools import cache

import typer
from support import pages
from support.cases import cases

from cli.app import create

PAGES = [pages.DOCS / name for name in ("moving.md", "runbook.md", "senders.md", "troubleshooting.md")]
PAGES += sorted((pages.DOCS / "providers").glob("*.md"))
WORDS = r"flowhook((?:\s+[^`\n]*)?)"


def named(path):
    """Yield the words behind `flowhook` of each command that a page names, in sentences and in blocks."""
    text = path.read_text(encoding="utf-8")
    for block in pages.blocks(path):
        for line in re.findall(rf"^(?:\$ (?:\.venv/bin/)?)?{WORDS}$", block.text, re.MULTILINE):
            yield re.split(r"\s{2,}", line)[0].split()
    for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        if match := re.fullmatch(WORDS, " ".join(code.split())):
            yield match[1].split()


@cache
def root():
    """Return the command `flowhook`, whose making takes longer than all that is asked of it."""
    return typer.main.get_command(create())


def problem(words):
    """Return what is wrong with a command; empty: nothing."""
    command = root()
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            if word.partition("=")[0] not in options:
                return f"no option {word}"
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return f"no command {word}"
            command = command.commands[word]
            options |= {option for parameter in command.params for option in parameter.opts}
    return ""


@cases("path", PAGES, ids=pages.name_of)
def test_the_commands_that_a_page_names_are_there(path):
    found = list(named(path))
    assert found
    assert {" ".join(words): problem(words) for words in found if problem(words)} == {}


def test_what_is_not_there_is_found():
    assert problem(["flows", "explain"]) == "no command explain"
    assert problem(["executions", "replay", "ID", "--undo"]) == "no option --undo"
    assert problem(["executions", "replay", "ID", "--again"]) == ""
