from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import typer
from support import pages
from support.cases import cases

from cli.app import create

PAGE = pages.text_of("commands.md")
EVERYWHERE = {"--json", "--router", "--data-dir", "--help", "-h"}
"""Options that are told once, for all commands."""
IN_TABLES = {"up", "edge", "router", "runner", "admin"}
"""Commands whose options are settings, which have tests of their own."""
WITH_OPTIONS_OF: Mapping[str, str] = {"dev": "up"}


def commands(group=None, path=()):
    group = group or typer.main.get_command(create())
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def section(heading):
    match = re.search(rf"^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return match[1] if match else ""


ALL = list(commands())


@cases("name", [name for name, _ in ALL])
def test_every_command_has_an_example(name):
    heading = "edge, router, runner, admin" if name in IN_TABLES - {"up"} else name

    assert "$ .venv/bin/flowhook " in section(heading)


@cases(("name", "command"), [pytest.param(*item, id=item[0]) for item in ALL])
def test_every_option_is_documented(name, command):
    if name in IN_TABLES:
        return
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    options = {option for parameter in shown for option in parameter.opts if option.startswith("-")}

    # what the commands of a group share, its heading says
    told = section(name) + section(name.split()[0]) + section(WITH_OPTIONS_OF.get(name, name))
    assert [option for option in sorted(options - EVERYWHERE) if f"`{option}" not in told] == []


@cases("heading", re.findall(r"^###? (.+)$", PAGE, re.MULTILINE))
def test_no_command_is_documented_that_is_not_there(heading):
    names = {name for name, _ in ALL} | {name.split()[0] for name, _ in ALL}

    assert set(heading.split(", ")) <= names


def test_commands_in_the_docs_are_there():
    names = {name for name, _ in ALL}
    groups = {name.split()[0] for name in names if " " in name}
    lines = {
        line
        for path in pages.PAGES
        for block in pages.blocks(path)
        for line in re.findall(r"^\$ .*?bin/flowhook ([a-z]+ ?[a-z]*(?:-[a-z]+)*)", block.text, re.MULTILINE)
    }
    message = {line if line.split()[0] in groups else line.split()[0] for line in lines}

    assert len(message) > 10
    assert message - names == set()
