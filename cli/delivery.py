"""Finds the execution of a delivery, and whether it is a repeated one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from cli.outcome import wait_until_ended
from flowhook.errors import NotFoundError, PermissionDeniedError
from flowhook.events import ids
from flowhook.expressions import strip_markers

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.document import FlowDocument
    from flowhook.model import ExecutionDetail

Headers = Sequence[tuple[str, str]]

RECENT: Final = 20  # number of latest executions that are searched when a response does not contain the execution's ID
_ID: Final = re.compile(r"evt_[0-9a-z]{26}")


class Delivery:
    """One delivery to a flow, and its execution as far as it is known.

    Attributes:
        execution_id: ID of its execution; empty: unknown.
        duplicate: whether it is a repeated delivery, which starts no execution; None: unknown.
    """

    def __init__(self, client: Client, document: FlowDocument) -> None:
        """Record the newest execution. Create this before the request is sent, to detect repeated deliveries."""
        self._client = client
        self._flow = document.id
        self._trace = secrets.token_hex(16)
        respond = None if document.webhook is None else document.webhook.respond
        self._unnamed = respond is None or respond.mode == "reply" or not _names_it(respond.body)
        self.execution_id = ""
        self.duplicate: bool | None = None
        self._newest: str | None = ""
        try:
            self._newest = next((each.id for each in client.executions.list(flow_id=self._flow, limit=1)), "")
        except PermissionDeniedError:
            self._newest = None

    def with_trace(self, headers: Headers) -> list[tuple[str, str]]:
        """Add a `traceparent`, by which the execution is found if the response will not contain its ID."""
        if not self._unnamed or self._newest is None or any(name.lower() == "traceparent" for name, _ in headers):
            return list(headers)
        return [*headers, ("traceparent", f"00-{self._trace}-{secrets.token_hex(8)}-01")]

    def answered(self, body: bytes) -> None:
        """Determine the execution of the delivery from the body of a response that is no refusal."""
        named = _named(body)
        if named and not self._unnamed:
            self.execution_id = named
            if self._newest is not None:
                self.duplicate = self._is_old(named)
        elif self._newest is not None:
            self.execution_id = self._search()
            self.duplicate = not self.execution_id

    def _is_old(self, execution_id: str) -> bool:
        if not self._newest or ids.time_ms_of(execution_id) > ids.time_ms_of(self._newest):
            return False
        # clocks of edges differ, so the order in the list decides, not the time
        for execution in self._client.executions.list(flow_id=self._flow, limit=RECENT):
            if execution.id == self._newest:
                break
            if execution.id == execution_id:
                return False
        return True

    def _search(self) -> str:
        for execution in self._client.executions.list(flow_id=self._flow, limit=RECENT):
            if execution.id == self._newest:
                break
            if self._trace in self._client.executions.get(execution.id, max_body_bytes=0).event.traceparent:
                return execution.id
        return ""

    def outcome(self) -> ExecutionDetail:
        """Wait until the execution has ended, however long that takes.

        Raises:
            NotFoundError: the execution is unknown.
        """
        if not self.execution_id:
            raise NotFoundError("which execution this delivery came to is not known, for the answer does not say")
        return wait_until_ended(self._client, self.execution_id)


def _names_it(body: Any) -> bool:
    """Whether a response with this body contains the ID of the execution as `id`."""
    text = body.get("id") if isinstance(body, dict) else None
    return isinstance(text, str) and strip_markers(text).strip() == ".id"


def _named(body: bytes) -> str:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    found = answer.get("id") if isinstance(answer, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""
