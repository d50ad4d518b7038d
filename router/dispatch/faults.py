"""Errors of executions that their flow did not cause."""

from __future__ import annotations

from flowhook.model import ERROR_TYPE_BASE, WorkflowError


def runtime_error(detail: str) -> WorkflowError:
    """Return an error that the flow did not cause."""
    return WorkflowError(type=f"{ERROR_TYPE_BASE}runtime", status=500, title="Runtime error", detail=detail)


def attempts_exhausted(attempts: int) -> WorkflowError:
    """Return the error of an execution that used up its attempts."""
    return runtime_error(f"given up after {attempts} attempts, each of which ended with its runner or lost its lease")
