"""Errors of the DSL, and the exceptions that carry them.

Source: dsl-reference.md, "Error" and "Standard Error Types".
"""

from __future__ import annotations

import dataclasses
from typing import Final

from flowhook import limits
from flowhook.model import FailedResponse, WorkflowError
from flowhook.model.error_types import ERROR_TYPE_BASE
from flowhook.model.error_types import Kind as Kind  # noqa: PLC0414 - for all that raise errors

USED_SECRETS: Final = "/use/secrets"  # instance of an error about secrets that occurs before any task

DESTINATION_DOWN: Final = "Destination Down"  # title of the error of a call that was not made and is not tried again

_DEFAULTS: Final[dict[Kind, tuple[int, str]]] = {
    Kind.CONFIGURATION: (400, "Configuration Error"),
    Kind.VALIDATION: (400, "Validation Error"),
    Kind.EXPRESSION: (400, "Expression Error"),
    Kind.AUTHENTICATION: (401, "Authentication Error"),
    Kind.AUTHORIZATION: (403, "Authorization Error"),
    Kind.TIMEOUT: (408, "Timeout"),
    Kind.COMMUNICATION: (500, "Communication Error"),
    Kind.RUNTIME: (500, "Runtime Error"),
}


class TaskFault(Exception):  # noqa: N818 - the DSL's word for a task that ends by an error
    """A task ended with an error; an enclosing task may catch it."""

    def __init__(self, error: WorkflowError, retry_after_ms: int = 0, *, cause: str = "", raised_by: str = "") -> None:
        super().__init__(error.detail or error.title)
        self.error = error  # as the flow sees it
        self.retry_after_ms = retry_after_ms  # wait that the failed service asks for
        self.redacted: WorkflowError | None = None  # computed by `ExecutionContext.redacted`
        # key of the journal entry of the failure, or of the failure that a `catch` handled when it raised this error
        self.cause = cause
        self.raised_by = raised_by  # JSON Pointer of the `raise` task that raised it, regardless of `error.instance`

    def at(self, instance: str) -> TaskFault:
        """Return the fault with its task as `instance`, unless that is set already."""
        if self.error.instance:
            return self
        error = dataclasses.replace(self.error, instance=instance)
        return type(self)(error, self.retry_after_ms, cause=self.cause, raised_by=self.raised_by)


class Exhausted(TaskFault):
    """An execution reached one of its limits; nothing catches this, or the execution would run beyond the limit."""


class ExpressionFailed(Exception):  # noqa: N818 - names what happened; the interpreter makes it a TaskFault
    """The evaluation of an expression failed; the message holds no secrets."""


class SchemaViolated(Exception):  # noqa: N818 - names what happened; the interpreter makes it a TaskFault
    """Data violates a schema; the message says where and how, without the data."""


def error(
    kind: Kind, detail: str, *, status: int | None = None, instance: str = "", response: FailedResponse | None = None
) -> WorkflowError:
    """Return an error of a standard type, with its default status unless another one is given.

    `detail` holds no secrets, and is shortened to `limits.MAX_ERROR_DETAIL_BYTES`; `instance` is the task's JSON
    Pointer. The server's `response` may hold secrets, which the caller must redact.
    """
    default, title = _DEFAULTS[kind]
    return WorkflowError(ERROR_TYPE_BASE + kind, status or default, title, instance, shorten(detail), response)


def fault(
    kind: Kind,
    detail: str,
    *,
    status: int | None = None,
    instance: str = "",
    retry_after_ms: int = 0,
    response: FailedResponse | None = None,
) -> TaskFault:
    return TaskFault(error(kind, detail, status=status, instance=instance, response=response), retry_after_ms)


def fault_of(problem: ExpressionFailed | SchemaViolated | TaskFault, instance: str) -> TaskFault:
    if isinstance(problem, TaskFault):
        return problem.at(instance)
    kind = Kind.EXPRESSION if isinstance(problem, ExpressionFailed) else Kind.VALIDATION
    return fault(kind, str(problem), instance=instance)


def shorten(text: str, size: int = limits.MAX_ERROR_DETAIL_BYTES) -> str:
    """Return `text`, cut so that it fits into `size` bytes, by default those of an error's detail."""
    data = text.encode()
    if len(data) <= size:
        return text
    return data[: size - 3].decode(errors="ignore") + "…"
