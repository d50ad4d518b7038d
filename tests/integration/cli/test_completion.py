"""Completion in shells: what they get for words that are not complete."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def completed(instruction, **words):
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli"],
        env={**os.environ, "_FLOWHOOK_COMPLETE": instruction, **words},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_bash_gets_the_words_that_fit():
    words = completed("complete_bash", COMP_WORDS="flowhook cluster ha", COMP_CWORD="2")
    assert words.split() == ["hand-over"]
    assert "--flow" in completed("complete_bash", COMP_WORDS="flowhook executions list --f", COMP_CWORD="3").split()


def test_zsh_gets_them_with_their_help():
    assert '"hand-over":"Have the owner' in completed("complete_zsh", _TYPER_COMPLETE_ARGS="flowhook cluster ha")


def test_fish_gets_values_too():
    words = completed(
        "complete_fish", _TYPER_COMPLETE_ARGS="flowhook executions re", _TYPER_COMPLETE_FISH_ACTION="get-args"
    )
    assert {"replay", "resume", "resolve"} <= set(words.split())


def test_samples_and_providers_are_completed():
    found = completed("complete_bash", COMP_WORDS="flowhook trigger git", COMP_CWORD="2").split()
    assert found == ["github/issue-opened", "github/push", "gitlab/push"]
    words = "flowhook new orders --provider s"
    assert {"shopify", "stripe"} <= set(completed("complete_bash", COMP_WORDS=words, COMP_CWORD="4").split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_shown(shell):
    """The shell is named: what runs the tests may be none."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", "--show-completion", shell],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "flowhook" in done.stdout
