"""Starts replays of executions, and says beforehand what they would do."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import attrs
import orjson

from flowhook import limits
from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.events import ids
from flowhook.events.keys import EventKeys
from flowhook.events.workflow_input import batches_events, takes_raw_body
from flowhook.model import Event
from flowhook.model.replays import ReplayOptions, ReplayPreview
from flowhook.wire import convert
from router.dispatch.shard_runtime import ShardRuntime
from router.executions.reading import past_retention
from router.flows.admission import AdmissionControl
from router.replay.journal_keys import LocatedRun, locate_runs
from router.replay.plan import Plan, edited, plan_replay
from router.storage.model import ExecutionRecord, NewEvent
from router.storage.registry import Registry

REPLAY_WINDOW_MS: Final = 24 * 3600 * 1000  # time for which a replay's `request_id` is deduplicated


@attrs.define(eq=False, repr=False, kw_only=True)
class Replays:
    """Replays executions that ended."""

    _runtime: ShardRuntime
    _admission: AdmissionControl
    _registry: Registry
    _replaying: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    async def start(
        self,
        execution_id: str,
        options: ReplayOptions,
        *,
        request_id: str = "",
        unless_replayed: bool = False,
        event_id: str = "",
    ) -> ExecutionRecord:
        """Start a new execution from the event of one that ended, and return it; see `ReplayExecution`.

        Args:
            execution_id: ID of the one that ended.
            options: how it is replayed, checked (`services.execution.read_options`).
            request_id: idempotency key; empty: none.
            unless_replayed: refuse one that was replayed, or marked as resolved.
            event_id: ID of the new execution; empty: a new one. A second call with the same one starts none.
        """
        if not unless_replayed:
            return await self._start(await self._ended(execution_id), options, request_id, event_id)
        async with self._replaying:  # or two calls could both find no replay before either starts one
            original = await self._ended(execution_id)
            if request_id:
                earlier = await self._runtime.parts.state.deduplicated(
                    original.flow_id, _dedupe_key(original, request_id), now_ms=self._runtime.parts.now_ms()
                )
                if earlier is not None:  # a retry of the same call, whose response was lost
                    return await self._runtime.executions.find(earlier)
            _check_unsettled(original)
            return await self._start(original, options, request_id, event_id)

    async def _start(
        self, original: ExecutionRecord, options: ReplayOptions, request_id: str, event_id: str
    ) -> ExecutionRecord:
        plan = await self._plan(original, options, event_id)
        event = plan.event
        now_ms = self._runtime.parts.now_ms()
        (appended,) = await self._runtime.append(
            [
                NewEvent(
                    event.id,
                    original.flow_id,
                    plan.revision,
                    now_ms,
                    event.SerializeToString(),
                    _dedupe_key(original, request_id),
                    now_ms + REPLAY_WINDOW_MS,
                    original.id,
                    plan.keys.order_key,
                    plan.resumes,
                    event.body_blob.id,
                    original.quiet,
                    plan.keys.attributes,
                    edited=options.body is not None,
                    shaping=plan.keys.shaping,
                    replay_root=original.root,
                )
            ]
        )
        if appended.body_missing:
            raise past_retention(original.id)
        if not appended.duplicate_of:
            replayed = self._runtime.parts.metrics.by_label["flowhook_replays_total"]
            replayed["start" if plan.resumes is None else "task"] += 1
        return await self._runtime.executions.find(appended.duplicate_of or event.id)

    async def check_output(self, options: ReplayOptions, flow_id: str) -> None:
        """Check that the output that a task is given, if any, is JSON; `flow_id`: empty if there are several flows."""
        if options.output is not None:
            await self._admission.check_output(flow_id, options.output)

    async def preview(
        self, execution_id: str, options: ReplayOptions, *, unless_replayed: bool = False
    ) -> ReplayPreview:
        original = await self._ended(execution_id)
        if unless_replayed:
            _check_unsettled(original)
        plan = await self._plan(original, options)
        definition = await self._definition(original.flow_id, plan.revision)
        if not plan.runs:
            plan = plan._replace(runs=await self._runs(original.seq))
        preview = await asyncio.to_thread(plan.preview, definition)
        return preview._replace(latest_revision=self._admission.latest_revision(original.flow_id))

    async def _ended(self, execution_id: str) -> ExecutionRecord:
        original = await self._runtime.executions.find(execution_id)
        if not original.status.ended:
            raise ConflictError(f"{original.id} has not ended: {original.status}", reason="EXECUTION_NOT_ENDED")
        return original

    async def _plan(self, original: ExecutionRecord, options: ReplayOptions, event_id: str = "") -> Plan:
        content = await self._runtime.parts.state.content(original.seq)
        if content is None:
            raise past_retention(original.id)
        revision = await self._revision(original, latest=options.latest)
        if original.batch == original.root:
            await self._check_batch(original, options, revision)
        event_id = event_id or ids.mint(ids.slot_of(original.flow_id))
        plan = plan_replay(original, options, content, revision=revision, event_id=event_id)
        if options.from_task:
            await self.check_output(options, original.flow_id)
            return await asyncio.to_thread(plan.from_given_task, await self._runs(original.seq))
        if options.body is None:
            return plan
        event = edited(convert.event_from_proto(plan.event), options.body, options.content_type, original.id)
        return plan._replace(event=convert.event_to_proto(event), keys=await self._keys(event, revision))

    async def _check_batch(self, original: ExecutionRecord, options: ReplayOptions, revision: int) -> None:
        if options.body is not None:
            raise InvalidError(
                f"{original.id} ran for {original.batch_events} events: edit the input of a replay of one of them",
                reason="EDIT_OF_BATCH",
            )
        definition = await self._definition(original.flow_id, revision)
        if not batches_events(definition):
            raise ConflictError(
                f"{original.id} ran for a batch, and revision {revision} has no execution.batch", reason="NO_BATCH"
            )

    async def _runs(self, seq: int) -> tuple[LocatedRun, ...]:
        return await asyncio.to_thread(locate_runs, await self._runtime.parts.state.located_history(seq))

    async def _keys(self, edited: Event, revision: int) -> EventKeys:
        try:
            entry = await self._admission.flow(edited.flow_id)
        except NotFoundError:
            entry = None  # deleted: executions of one key may run at the same time
        definition = await self._definition(edited.flow_id, revision)
        keys = await self._admission.keys_of_edited(entry, edited, raw=takes_raw_body(definition))
        return keys if keys.shaping is None else keys._replace(shaping=keys.shaping.without_group())

    async def _definition(self, flow_id: str, revision: int) -> dict[str, Any]:
        flow = await self._registry.get_flow(flow_id, revision=revision)
        definition: dict[str, Any] = {} if flow is None else orjson.loads(flow.definition)
        return definition

    async def _revision(self, original: ExecutionRecord, *, latest: bool) -> int:
        """Return the revision that a replay runs.

        The revision of the original execution is stored as long as that execution, even if its flow is deleted.
        """
        entry = await self._admission.flow(original.flow_id) if latest else self._admission.known(original.flow_id)
        limit = limits.DEFAULT_FLOW_BACKLOG if entry is None else entry.max_backlog
        self._admission.check_backlog(original.flow_id, limit)
        return entry.revision if latest and entry is not None else original.flow_revision


def _dedupe_key(original: ExecutionRecord, request_id: str) -> str:
    # the space distinguishes it from senders' keys, which have visible characters only
    return f"replay {original.id} {request_id}" if request_id else ""


def _check_unsettled(original: ExecutionRecord) -> None:
    if original.replayed:
        raise ConflictError(
            f"{original.id} has already been replayed, as {original.replayed_by}", reason="EXECUTION_REPLAYED"
        )
    if original.resolution is not None:
        reason = original.resolution.reason
        said = f"{original.id} is marked as resolved{f': {reason}' if reason else ''}"
        raise ConflictError(said, reason="EXECUTION_RESOLVED")
