"""One execution: `start`, then `resume` with what each step asked for, until it has completed or faulted.

No I/O and no clock of its own. With a journal, effects that it records are answered from it, in order; an effect that
the journal does not expect faults the execution instead of guessing.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowhook import limits
from flowhook.model import JournalEntry
from runner.interpreter import data as json
from runner.interpreter.effects import Completed, Faulted, Pause, Perform, Result, Step
from runner.interpreter.errors import Kind, TaskFault, fault
from runner.interpreter.observing import Observer
from runner.interpreter.program import Program
from runner.interpreter.redaction import redact_error
from runner.interpreter.scope import Workflow
from runner.interpreter.tasks import State, Steps, run_workflow


class Run:
    """An execution of a program for one input.

    Attributes:
        replayed: effects that the journal answered so far.
        started: whether `start` was called.
    """

    __slots__ = ("_bytes", "_entries", "_journal", "_secrets", "_steps", "_waiting", "replayed", "started")

    def __init__(
        self,
        program: Program,
        workflow: Workflow,
        journal: Sequence[JournalEntry] = (),
        observer: Observer | None = None,
    ) -> None:
        self._steps: Steps = run_workflow(program, State(workflow, observer=observer))
        self._secrets = workflow.secrets
        self._journal = journal
        self._entries = len(journal)
        self._bytes = sum(len(entry.key) + len(entry.output or b"") for entry in journal)
        self._waiting: Perform | None = None
        self.replayed = 0
        self.started = False

    def start(self) -> Step:
        """Run until something is to be done by others. Blocking: expressions are evaluated in here."""
        self.started = True
        return self._advance(None)

    def resume(self, result: Result | None = None) -> Step:
        """Go on: with the result of the Perform that the last step was, with None after a Pause.

        Blocking, as `start`.
        """
        if (self._waiting is None) != (result is None):
            raise AssertionError("a Perform is resumed with a result, and nothing else is")
        waiting, self._waiting = self._waiting, None
        if waiting is not None and result is not None:
            self._entries += 1
            self._bytes += len(waiting.key) + len(result.output or b"")
        return self._advance(result)

    def _advance(self, result: Result | None) -> Step:
        try:
            while True:
                request = self._steps.send(result)
                if isinstance(request, Pause):
                    return request
                if self.replayed == len(self._journal):
                    self._check_journal(request)
                    self._waiting = request
                    return request
                result = self._replay(request)
        except StopIteration as end:
            return self._complete(end.value)
        except TaskFault as problem:
            return self._faulted(problem)

    def _faulted(self, problem: TaskFault) -> Faulted:
        return Faulted(redact_error(problem.error, self._secrets))

    def _replay(self, request: Perform) -> Result:
        entry = self._journal[self.replayed]
        if entry.key != request.key:
            raise fault(
                Kind.RUNTIME,
                f"the journal diverged: it has {entry.key} where the flow now comes to {request.key}",
                instance=request.instance,
            )
        self.replayed += 1
        return Result(entry.output, entry.error)

    def _check_journal(self, request: Perform) -> None:
        if self._entries >= limits.MAX_JOURNAL_ENTRIES or self._bytes >= limits.MAX_JOURNAL_BYTES:
            raise fault(
                Kind.RUNTIME,
                f"the journal is full: at most {limits.MAX_JOURNAL_ENTRIES} calls, whose results have at most "
                f"{limits.MAX_JOURNAL_BYTES} bytes in all",
                instance=request.instance,
            )

    def _complete(self, output: object) -> Step:
        try:
            return self._diverged() or Completed(json.encode_result(output, "the workflow's output"))
        except TaskFault as problem:
            return self._faulted(problem.at("/output"))

    def _diverged(self) -> Faulted | None:
        """Return the fault when the journal records effects that the flow did not come to."""
        if self.replayed == len(self._journal):
            return None
        entry = self._journal[self.replayed]
        problem = fault(Kind.RUNTIME, f"the journal diverged: the flow ended before {entry.key}")
        return self._faulted(problem.at(entry.key.partition("#")[0]))
