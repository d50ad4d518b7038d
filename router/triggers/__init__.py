"""What starts executions beside requests: the time, other flows, and the events that these emit.

- `starter`: appends what starts executions, within the limits of their flows.
- `timekeeper`: starts flows when they are due (see `router.schedules`).

Every start has an ID that is made of what caused it, so that whatever is done again after a crash starts nothing twice.
"""
