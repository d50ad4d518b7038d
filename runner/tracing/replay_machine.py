"""The interpreter as far as a journal goes: it reads no clock, and no wait ends unless the journal says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowhook.model import JournalEntry
from runner.interpreter.effects import Step
from runner.interpreter.execution_machine import ExecutionMachine
from runner.interpreter.fibers import ExternalRequest, PendingRequest
from runner.interpreter.nodes import Program
from runner.interpreter.scope import ExecutionContext
from runner.interpreter.tracing import Observer

OnAnswer = Callable[[ExternalRequest, JournalEntry], None]
"""Called with a request and the entry of the journal that answers it, or that holds its deadline."""


class ReplayMachine(ExecutionMachine):
    """An execution that stops where its journal ends."""

    __slots__ = ("_on_answer",)

    def __init__(
        self,
        program: Program,
        workflow: ExecutionContext,
        journal: Sequence[JournalEntry],
        observer: Observer,
        on_answer: OnAnswer,
    ) -> None:
        """See `ExecutionMachine`."""
        super().__init__(program, workflow, journal, observer)
        self._on_answer = on_answer

    @property
    def pending(self) -> list[PendingRequest]:
        """Requests that the journal does not answer, in order."""
        return list(dict.fromkeys(self._fibers.pending.values()))

    @property
    def compacted(self) -> bool:
        """Whether the journal begins with a snapshot."""
        return self._journal.snapshot is not None

    def _replay(self, entry: JournalEntry) -> None:
        pending = self._fibers.pending.get(entry.key)
        if pending is not None:
            self._on_answer(pending.request, entry)
        super()._replay(entry)

    def _read_clock(self) -> bool:
        return False

    def _process_deadline(self, step: Step) -> bool:  # noqa: ARG002 - the signature of the base class
        return False
