"""Pages of lists, and errors that only clients have; others are in `flowhook.errors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from flowhook.errors import FlowhookError, UnavailableError
from flowhook.model import WorkflowError

T_co = TypeVar("T_co", covariant=True)


class Page(NamedTuple, Generic[T_co]):
    """A part of a list, and the token of the next part; empty on the last.

    Methods that return a page take `page_size`, how many items it has at most, in [1, 1000], and `page_token`, the
    `next_page_token` of the page before with the same conditions; empty: the first page. A page may be short, or empty,
    although there is a next one. A token that is not one of a page is refused with an `InvalidError`
    (`PAGE_TOKEN_INVALID`).
    """

    items: Sequence[T_co]
    next_page_token: str


class ReplyPendingError(UnavailableError):
    """The flow has not replied in time; its execution, `execution_id`, continues."""

    default_reason = "REPLY_PENDING"

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"execution {execution_id} has not replied in time, and continues")
        self.execution_id = execution_id


class ExecutionFailedError(FlowhookError):
    """The execution faulted or was cancelled; `error` is the cause as a DSL error."""

    default_reason = "EXECUTION_FAILED"

    def __init__(self, execution_id: str, error: WorkflowError) -> None:
        super().__init__(f"execution {execution_id} failed: {error.title}: {error.detail}".rstrip(": "))
        self.execution_id = execution_id
        self.error = error
