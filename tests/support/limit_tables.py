"""Limits that callers share as tables of the docs: run this file to print them."""

from __future__ import annotations

from dataclasses import fields

from flowhook.limits import MIB
from flowhook.sharing import Limit
from flowhook.sharing.table import AdminLimits, EdgeLimits, OffloadLimits, RouterLimits, RunnerLimits

TABLES = {
    "Router": RouterLimits,
    "Edge": EdgeLimits,
    "Runner": RunnerLimits,
    "Admin": AdminLimits,
    "Separate processes": OffloadLimits,
}
"""Limits by heading of `limits.md`."""


def limits_of(table):
    """Return the limits of a table by attribute."""
    return {each.name: each.default for each in fields(table) if isinstance(each.default, Limit)}


def rows(table):
    """Return the lines of the table of a process's limits."""
    lines = ["| limit | counts | in all | share of one | reserved | beyond it |", "|---|---|---|---|---|---|"]
    return lines + [_line(name, limit) for name, limit in limits_of(table).items()]


def _line(name, limit):
    share = f"1/{limit.parts} per {limit.per}"
    beyond = ", ".join(f"`{reason}`" for reason in dict.fromkeys((limit.reason, limit.full or limit.reason)))
    if limit.waiting:
        beyond = f"{limit.waiting:,} wait, then {beyond}"
    reserved = _amount(limit, limit.reserved) if limit.reserved else "none"
    return f"| `{name}` | {limit.counts} | {_amount(limit, limit.total)} | {share} | {reserved} | {beyond} |"


def _amount(limit, number):
    return f"{number // MIB:,} MiB" if limit.counts.startswith("bytes") else f"{number:,}"


if __name__ == "__main__":
    for heading, table in TABLES.items():
        print(f"{heading}\n", *rows(table), "", sep="\n")  # noqa: T201
