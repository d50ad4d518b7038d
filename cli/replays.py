"""Replaying executions: one, or all that match, at a rate, or just saying which."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from cli.connection import of_flow
from cli.output import execution_as_json, print_json
from flowhook.client import Client
from flowhook.errors import ConflictError, FlowhookError
from flowhook.model import Execution, Status


class Replay:
    """How to replay, and where to say so."""

    def __init__(
        self, client: Client, *, latest: bool, from_failed: bool, dry_run: bool, rate: float | None, json: bool
    ) -> None:
        """Replay with `client`; `rate` is the most that is started a second, None: no limit."""
        self._client = client
        self._latest = latest
        self._from_failed = from_failed
        self._dry_run = dry_run
        self._interval = 1 / rate if rate else 0.0
        self._json = json

    def one(self, execution_id: str) -> None:
        """Replay an execution.

        Raises:
            FlowhookError: it can't be replayed.
        """
        if not self._dry_run:
            self._start(execution_id)
            return
        execution = self._client.executions.get(execution_id).execution
        if not execution.status.ended:
            raise ConflictError(f"{execution_id} has not ended: {execution.status}", reason="EXECUTION_NOT_ENDED")
        self._preview(execution)

    def all(self, flow: str, statuses: Sequence[Status]) -> int:
        """Replay what matches now, in order of arrival, and return how many could not be.

        Raises:
            NotFoundError: there is no such flow, and nothing of it.
        """
        # all of them first: those that are started while this runs must not be found again
        found = list(of_flow(self._client, flow, self._client.executions.list(flow_id=flow, statuses=statuses)))
        failed = 0
        due = time.monotonic()
        for execution in reversed(found):
            if self._dry_run:
                self._preview(execution)
                continue
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - self._interval) + self._interval
            try:
                self._start(execution.id)
            except FlowhookError as error:
                failed += 1
                print(f"flowhook: {execution.id}: {error.message}", file=sys.stderr)
        if not self._json:
            done = "would be replayed" if self._dry_run else "replayed"
            print(f"{len(found) - failed} of {len(found)} {done}")
        return failed

    def _start(self, execution_id: str) -> None:
        started = self._client.executions.replay(execution_id, latest=self._latest, from_failed=self._from_failed)
        if self._json:
            print_json({**execution_as_json(started), "replay_of": execution_id})
        else:
            print(f"{execution_id}: replayed as {started.id}")

    def _preview(self, execution: Execution) -> None:
        if self._json:
            print_json(execution_as_json(execution))
        else:
            error = "" if execution.error is None else f", {execution.error.status} {execution.error.title}"
            print(f"{execution.id}: {execution.status}{error}; would be replayed")
