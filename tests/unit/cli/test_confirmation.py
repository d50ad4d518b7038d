"""Asking before what can't be undone."""

from __future__ import annotations

import io
import sys

import pytest
import typer

from cli.confirmation import confirm


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "yes"), [("y\n", False), ("", True)])
def test_what_is_confirmed_goes_on(monkeypatch, answer, yes):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    confirm("Erase it?", yes=yes)


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_anything_else_on_a_terminal_ends_the_command(monkeypatch, answer, capsys):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    with pytest.raises(typer.Abort):
        confirm("Erase it?", yes=False)
    assert capsys.readouterr().err.startswith("Erase it? [y/N]")


def test_a_script_is_not_asked(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    confirm("Erase it?", yes=False)
    assert capsys.readouterr() == ("", "")
