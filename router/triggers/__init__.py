"""What starts an execution without a request: schedules, other flows, and the events that these emit.

- `idempotent_ids`: idempotent IDs for executions and events that are caused by other executions.
- `execution_starter`: appends the events that start executions, within the limits of their flows.
- `event_publisher`: delivers emitted events to the flows that they start (`router.flows.event_triggers`).
- `lifecycle_publisher`: publishes lifecycle events of executions to the flows that want them.
- `join_trigger`: buffers events that start a flow only together, until there is one for each filter.
- `cron_scheduler`: starts flows when they are due (`router.flows.schedules`).

The ID of every start is derived from its cause, so that work repeated after a crash starts nothing twice.
"""
