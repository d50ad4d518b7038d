"""The hooks of pre-commit are the commands of `make lint`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def test_the_hooks_run_what_make_lint_runs():
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]

    [local] = YAML(typ="safe", pure=True).load(ROOT / ".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"] for hook in local["hooks"]]

    assert [_without_shell(entry) for entry in entries] == commands
    assert not any(hook["pass_filenames"] for hook in local["hooks"])


def _without_shell(entry):
    """Return the command line that an entry gives to `sh -c`, or the entry itself: pre-commit starts no shell."""
    words = shlex.split(entry)
    return words[2] if words[:2] == ["sh", "-c"] else entry
