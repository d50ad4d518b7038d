"""Triggers that start executions without a request: schedules, other flows, and the events that these emit.

- `effects`: idempotent IDs for executions and events that are caused by other executions.
- `starter`: appends the events that start executions, within the limits of their flows.
- `publisher`: delivers emitted events to the flows that want them (see `router.event_triggers`).
- `herald`: publishes lifecycle events of executions to the flows that want them.
- `gatherer`: buffers events that start a flow only together, until there is one for each filter.
- `timekeeper`: starts flows when they are due (see `router.schedules`).

The ID of every start is derived from its cause, so that work repeated after a crash starts nothing twice.
"""
