"""Waits until an execution has ended, and prints its outcome."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from flowhook.errors import UnavailableError
from flowhook.model import Status
from flowhook.retrying import POLL

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.model import ExecutionDetail

NOT_ENDED: Final = "EXECUTION_NOT_ENDED"  # reason of the error of an execution that has not ended in time


def wait_until_ended(client: Client, execution_id: str, timeout: float | None = None) -> ExecutionDetail:
    """Return an execution once it has ended.

    Args:
        client: of the router.
        execution_id: its ID.
        timeout: seconds to wait; None: however long that takes.

    Raises:
        NotFoundError: the execution is unknown.
        UnavailableError: it has not ended in time (`EXECUTION_NOT_ENDED`).
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pauses = POLL.pauses()
    while not (status := client.executions.get(execution_id, max_body_bytes=0).execution.status).ended:
        left = POLL.limit if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise UnavailableError(
                f"{execution_id} has not ended within {timeout:g} s: it is {status}", reason=NOT_ENDED
            )
        time.sleep(min(next(pauses), left))
    return client.executions.get(execution_id)


def show_outcome(detail: ExecutionDetail, *, json: bool) -> None:
    """Print the status of an execution that has ended, with its output or its error."""
    from cli.operator import shown
    from cli.output import print_json, to_json
    from operations.executions import detail_view

    view = detail_view(detail, with_body=True)
    if json:
        print_json(view)
        return
    told = shown(view)
    print(f"{told['id']}: {told['status']}")
    if view.status is not Status.CANCELLED:
        print(to_json(told["output"] if told["error"] is None else told["error"], indent=True).decode())
