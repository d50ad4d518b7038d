"""Asks before something is deleted, if a person is there to answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask. Without a terminal nothing is asked either.")]


def confirm(question: str | Callable[[], str], *, yes: bool) -> None:
    """Ask a question on stderr, unless `yes`, or stdin is no terminal: scripts go on as they did.

    Args:
        question: the text, or what returns it if it is asked.
        yes: whether `--yes` was given.

    Raises:
        typer.Abort: the answer is not yes.
    """
    if yes or not sys.stdin.isatty():
        return
    text = question if isinstance(question, str) else question()
    print(f"{text} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Abort
