"""Prints the tables of docs/scaling.md, computed from bench/latest.json: what one router reaches on more cores.

Run: .venv/bin/python -m bench.scaling
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

LATEST: Final = Path(__file__).with_name("latest.json")
CORES: Final = (2, 4, 8, 16)
EVENTS: Final = {"accept": "durable acceptance", "e2e": "whole execution"}


class Cost(NamedTuple):
    """What an event costs (µs of CPU time), and what was measured with it."""

    total: float
    loop: float
    storage_python: float  # what the writer and the readers do under the interpreter's lock
    writer: float
    edge: float
    runner: float
    rate: float  # measured, events a second

    @property
    def serial(self) -> float:
        """Time of the router's process that no core can take off it: one thread has the interpreter's lock."""
        return max(self.loop + self.storage_python, self.writer)

    @property
    def used(self) -> float:
        """Cores that were in use when it was measured."""
        return self.rate * self.total / 1e6

    def reached(self, cores: float, shards: int = 1) -> float:
        """Return events a second: bounded by the cores, and by each router's process."""
        return min(cores / self.total, shards / self.serial) * 1e6


def cost(figures: dict[str, Any], key: str) -> Cost:
    """Return the cost of an event of a kind."""
    processes = figures[f"{key}_us_by_process"]
    return Cost(
        total=figures[f"{key}_us"],
        loop=processes["router, loop"],
        storage_python=figures[f"{key}_us_by_part"].get("router", {}).get("Python, storage", 0.0),
        writer=processes["router, writer and readers"],
        edge=processes["edge"],
        runner=processes["runner"],
        rate=figures[f"{key}_rps"],
    )


def tables(figures: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    costs = {what: cost(figures, key) for key, what in EVENTS.items()}
    rows = [("", *costs)]
    rows += [
        ("CPU time in all processes", *(f"{each.total:.0f} µs" for each in costs.values())),
        ("router's loop", *(f"{each.loop:.0f} µs" for each in costs.values())),
        ("router's writer; of it, Python", *(f"{c.writer:.0f}; {c.storage_python:.0f} µs" for c in costs.values())),
        ("serial: loop and the writer's Python", *(f"{each.serial:.0f} µs" for each in costs.values())),
        ("**a router at most**, a second", *(f"**{_round(1e6 / each.serial)}**" for each in costs.values())),
        ("cores that all processes then use", *(f"{each.total / each.serial:.1f}" for each in costs.values())),
        ("one edge process at most, a second", *(f"{_round(1e6 / each.edge)}" for each in costs.values())),
        ("one runner process at most, a second", "", _round(1e6 / costs[EVENTS["e2e"]].runner)),
    ]
    growth = [("cores", *(f"{what}, {number} shards" for what in costs for number in (1, 2, 4)))]
    growth += [
        (str(cores), *(_round(each.reached(cores, number)) for each in costs.values() for number in (1, 2, 4)))
        for cores in CORES
    ]
    growth[0] = tuple(name.replace(", 1 shards", ", 1 shard") for name in growth[0])
    measured = ", ".join(f"{what} {_round(each.rate)}/s with {each.used:.2f} cores" for what, each in costs.items())
    return f"{_markdown(rows)}\n\n{_markdown(growth)}\n\nmeasured: {measured}"


def _round(rate: float) -> str:
    return f"{round(rate, -2):,.0f}"


def _markdown(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


if __name__ == "__main__":
    print(tables(json.loads(LATEST.read_text())))
