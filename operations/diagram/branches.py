"""Finds where control goes in a list of tasks, and which of them are branches of a `switch`, drawn side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from flowhook.document.definition import DIRECTIVES, PlacedTask
from operations.diagram import reading
from operations.diagram.path import END

SHORT: Final = 2  # tasks behind branches that all end, which are a branch, too; of more the picture goes straight on
FAR: Final = 200  # tasks of branches that are looked at
ELSE: Final = "else"  # label of what follows if no case is met


class Branch(NamedTuple):
    """Neighbouring tasks of a list, from index `begin` to before `end`; none: it leads to what follows all branches."""

    label: str
    begin: int
    end: int


class TaskList:
    """A list of tasks, in which the length of the list stands for what follows it."""

    def __init__(self, tasks: Sequence[PlacedTask]) -> None:
        self.tasks = tasks
        self._places = {placed.name: index for index, placed in enumerate(tasks)}

    def pointer(self, place: int) -> str:
        """Return the JSON Pointer of the task at an index, or `END`."""
        return self.tasks[place].pointer if place < len(self.tasks) else END

    def name(self, place: int) -> str:
        return self.tasks[place].name if place < len(self.tasks) else END

    def place(self, index: int, then: str) -> int | None:
        """Return the index to which `then` of the task at an index leads; None: it ends the list or the flow."""
        return index + 1 if then == "continue" else None if then in DIRECTIVES else self._places.get(then)

    def exits(self, index: int) -> list[tuple[str, int]]:
        """Return where control may go from the task at an index: the case of a `switch`, or empty, and an index."""
        placed = self.tasks[index]
        thens = [(name, case.get("then") or "continue") for name, case in reading.cases(placed)]
        if reading.leads_on(placed):
            thens.append((ELSE if thens else "", placed.task.get("then") or "continue"))
        return [(name, place) for name, then in thens if (place := self.place(index, then)) is not None]

    def branches(self, index: int, end: int, after: int, most: int) -> tuple[list[Branch], int] | None:
        """Return the branches of the `switch` at an index, and the index at which they come together.

        Only tasks before `end` are looked at; what follows them is at `after`, for which `end` stands here. Returns
        None if there are fewer than two branches or more than `most`, tasks that no case leads to before the first, or
        more than `FAR` before the last.
        """

        def near(place: int) -> int:
            return end if place == after else place if index < place < end else -1

        placed = self.tasks[index]
        labels: dict[int, list[str]] = {}
        for name, place in self.exits(index):
            labels.setdefault(near(place), []).append(name)
        if ELSE in labels.pop(-1, ()) or placed.task.get("then") in reading.STOPS:
            return None
        begins = sorted(labels)
        if not 1 < len(begins) <= most or begins[0] != index + 1 or begins[-1] - index > FAR:
            return None
        joins = [
            place
            for begin, stop in pairwise(begins)
            for inner in range(begin, stop)
            for place in (near(place) for _, place in self.exits(inner))
            if place >= begins[-1]
        ]
        rest = end if end - begins[-1] <= SHORT else begins[-1]
        stops = [
            *begins[1:],
            min((place for place in joins if place > begins[-1]), default=begins[-1] if joins else rest),
        ]
        found = zip(begins, stops, strict=True)
        return [Branch(", ".join(labels[begin]), begin, stop) for begin, stop in found], stops[-1]
