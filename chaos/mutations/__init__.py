"""Mutations: defects that a campaign has to find, so that one without problems means something.

Each is a patch of the product's code that `injected/sitecustomize.py` makes in the processes of the cluster, when they
import what it changes. They get it by `PYTHONPATH`: the product has no seam for it, and its files stay as they are.
`python -m chaos --mutation NAME` runs a campaign whose faults are those that the defect needs to show itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chaos.cluster import RUNNERS
from chaos.faults import KILL, STOP, Aim

INJECTED: Final = Path(__file__).with_name("injected")
VARIABLE: Final = "CHAOS_MUTATION"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A defect.

    Attributes:
        name: as in `injected/sitecustomize.py`.
        defect: what is wrong.
        aim: faults that make it show itself.
        problems: kinds of problems, one of which the verdict has to have.
    """

    name: str
    defect: str
    aim: Aim
    problems: frozenset[str]

    def environment(self) -> Mapping[str, str]:
        """Return the variables of processes that have the defect."""
        path = os.pathsep.join(filter(None, (str(INJECTED), os.environ.get("PYTHONPATH"))))
        return {"PYTHONPATH": path, VARIABLE: self.name}


_LIST: Final = (
    Mutation(
        "early-acknowledgement",
        "events are acknowledged 0.3 s before their transaction commits",
        Aim(frozenset({KILL}), frozenset({"router-1"})),
        frozenset({"lost"}),
    ),
    Mutation(
        "skipped-journal-entry",
        "the journal entry of an execution's second call is acknowledged, and not stored",
        Aim(frozenset({KILL}), frozenset(RUNNERS)),
        frozenset({"journaled_calls_repeated"}),
    ),
    Mutation(
        "unchecked-lease",
        "reports are accepted under any lease that an execution ever had",
        Aim(frozenset({STOP}), frozenset(RUNNERS), stopped_seconds=(6.5, 9.0)),
        frozenset({"calls_after_the_end", "journaled_calls_repeated", "calls_repeated_without_a_cause"}),
    ),
)
MUTATIONS: Final[Mapping[str, Mutation]] = {each.name: each for each in _LIST}
