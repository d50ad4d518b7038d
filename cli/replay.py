"""Replays executions: one, or all that match; with a rate limit, or as a dry run."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import typer

from cli.client_factory import require_flow
from cli.failures import EXIT_REFUSED
from cli.output import execution_as_json, print_json, print_table, printable
from flowhook.client import Client
from flowhook.errors import ConflictError, FlowhookError
from flowhook.model import Execution, Status
from flowhook.replays import ReplayPreview

MAX_UNCONFIRMED: Final = 10
"""Maximum number of executions that are replayed on a terminal without a confirmation."""

_SKIPPED: Final = {
    "EXECUTION_REPLAYED": "replayed already",
    "EXECUTION_RESOLVED": "marked as resolved",
}
"""Descriptions of the router's reasons to refuse a replay with `unless_replayed`."""
_REPLAY_FAILED: Final = "their replays, which failed, come in their place"


class ReplayOptions(NamedTuple):
    """What a replay runs, and from where; see `Client.executions.replay`."""

    latest: bool = False
    from_failed: bool = False
    from_task: str = ""
    output: bytes | None = None
    body: bytes | None = None
    content_type: str | None = None


class Replayer:
    """Replays executions with fixed options, and prints the progress."""

    def __init__(
        self,
        client: Client,
        options: ReplayOptions,
        *,
        again: bool,
        dry_run: bool,
        rate: float | None,
        json: bool,
    ) -> None:
        """Configure the replays.

        Args:
            client: client of the router.
            options: what to run, and from where.
            again: also replay executions that were replayed already, or are marked as resolved.
            dry_run: only print what would be replayed.
            rate: maximum number of replays started per second; None: no limit.
            json: print JSON, for programs.
        """
        self._client = client
        self._options = options._asdict()
        self._again = again
        self._dry_run = dry_run
        self._interval = 1 / rate if rate else 0.0
        self._json = json

    def one(self, execution_id: str) -> None:
        """Replay an execution.

        Raises:
            FlowhookError: the execution can't be replayed.
        """
        if not self._dry_run:
            try:
                self._start(execution_id)
            except ConflictError as error:
                if error.reason in _SKIPPED:
                    again = f"{error.message}; --again replays it all the same"
                    raise ConflictError(again, reason=error.reason) from None
                raise
            return
        execution = self._client.executions.get(execution_id).execution
        if not execution.status.ended:
            raise ConflictError(f"{execution_id} has not ended: {execution.status}", reason="EXECUTION_NOT_ENDED")
        self._preview(execution, self._client.executions.preview_replay(execution_id, **self._options))

    def all(self, flow: str, statuses: Sequence[Status], *, ask: bool) -> int:
        """Replay all executions that match now, in order of arrival, and return the number of failures.

        `ask`: whether to require a confirmation to replay more than `MAX_UNCONFIRMED` executions.

        Raises:
            NotFoundError: there is no such flow, and no execution of it.
            typer.Exit: the confirmation was refused.
        """
        # list all of them first: executions that are started meanwhile must not be found again
        found = list(require_flow(self._client, flow, self._client.executions.list(flow_id=flow, statuses=statuses)))
        skipped: Counter[str] = Counter()
        wanted = found if self._again else self._not_replayed(found, skipped)
        if ask and len(wanted) > MAX_UNCONFIRMED and not self._dry_run:
            self._confirm(f"Replay {len(wanted)} executions of {flow}?")
        failed = done = 0
        due = time.monotonic()
        for execution in reversed(wanted):
            if self._dry_run:
                self._preview(execution)
                done += 1
                continue
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - self._interval) + self._interval
            try:
                self._start(execution.id)
                done += 1
            except FlowhookError as error:
                if error.reason in _SKIPPED:  # replayed or resolved by another client meanwhile
                    skipped[_SKIPPED[error.reason]] += 1
                    continue
                failed += 1
                print(f"flowhook: {execution.id}: {error.message}", file=sys.stderr)
        for reason, number in skipped.items():
            # with --json, stdout is reserved for JSON
            print(f"{number} skipped: {reason}", file=sys.stderr if self._json else sys.stdout)
        if not self._json:
            print(f"{done} of {done + failed} {'would be replayed' if self._dry_run else 'replayed'}")
        return failed

    def _confirm(self, question: str) -> None:
        if not typer.confirm(question, err=True):
            print("flowhook: nothing was replayed", file=sys.stderr)
            raise typer.Exit(EXIT_REFUSED)

    def _not_replayed(self, found: Sequence[Execution], skipped: Counter[str]) -> list[Execution]:
        """Return the executions to replay: of an execution and its replays, if all failed, only the last one."""
        originals = {execution.replay_of for execution in found}
        wanted: list[Execution] = []
        for execution in found:
            if execution.replayed:
                skipped[_SKIPPED["EXECUTION_REPLAYED"]] += 1
            elif execution.resolution is not None:
                skipped[_SKIPPED["EXECUTION_RESOLVED"]] += 1
            elif execution.id in originals:
                skipped[_REPLAY_FAILED] += 1
            else:
                wanted.append(execution)
        return wanted

    def _start(self, execution_id: str) -> None:
        options = self._options
        started = self._client.executions.replay(execution_id, **options, unless_replayed=not self._again)
        if self._json:
            print_json(execution_as_json(started))
        else:
            print(f"{execution_id}: replayed as {started.id}")

    def _preview(self, execution: Execution, preview: ReplayPreview | None = None) -> None:
        """Print what would be replayed and, for a single execution, which of its tasks would run again."""
        if self._json:
            shown = execution_as_json(execution)
            print_json(shown if preview is None else {**shown, "replay": _preview_as_json(preview)})
            return
        error = "" if execution.error is None else f", {execution.error.status} {execution.error.title}"
        print(printable(f"{execution.id}: {execution.status}{error}; would be replayed"))
        if preview is None:
            return
        keys = "with the same idempotency keys" if preview.keeps_idempotency_keys else "with new idempotency keys"
        print(f"on revision {preview.flow_revision}, {keys}")
        rows = [
            *(("taken over", each.task, each.kind) for each in preview.taken_over),
            *(("runs again", each.task, each.kind) for each in preview.again),
        ]
        print_table(("REPLAY", "TASK", "KIND"), rows, empty="no task of it is known")


def _preview_as_json(preview: ReplayPreview) -> dict[str, Any]:
    return {
        "revision": preview.flow_revision,
        "keeps_idempotency_keys": preview.keeps_idempotency_keys,
        "taken_over": [each._asdict() for each in preview.taken_over],
        "again": [each._asdict() for each in preview.again],
    }
