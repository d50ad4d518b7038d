"""Conditions on executions, by which they are listed."""

from __future__ import annotations

from typing import Final, NamedTuple

from flowhook.model.executions import Status


class ExecutionFilter(NamedTuple):
    """Conditions on executions, which must all hold; the default is met by all. See `flowhook.v1.ExecutionFilter`."""

    flow_id: str = ""  # ID of the flow; empty: any
    statuses: tuple[Status, ...] = ()  # any of these; empty: any
    # only those that faulted, have no resolution and are not superseded by a replay; of an execution and its replays
    # that all faulted, only the last
    unresolved: bool = False
    receive_from_ms: int | None = None  # Unix time at or after which their event was received; None: any
    receive_until_ms: int | None = None  # Unix time before which their event was received; None: any
    error_type: str = ""  # type of the error that they ended with, as its whole URI or its last segment; empty: any
    error_task: str | None = None  # JSON Pointer of the task that raised that error; None: any
    error_status: int = 0  # status of that error; 0: any
    error_title: str = ""  # title of that error; empty: any
    min_attempts: int = 0  # attempts that they have at least; 0: any
    attributes: tuple[tuple[str, str], ...] = ()  # search attributes that they have: names and values
    caused_by: str = ""  # ID of the execution that started them, or whose events they received; empty: any

    @property
    def faulted_only(self) -> bool:
        """Whether only executions that faulted can meet the conditions."""
        return bool(
            self.unresolved or self.error_type or self.error_task is not None or self.error_status or self.error_title
        )


ALL: Final = ExecutionFilter()  # the filter that all executions meet
