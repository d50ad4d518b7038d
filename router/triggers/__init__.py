"""What starts executions beside requests: the time, other flows, and the events that these emit.

- `effects`: IDs of what flows cause in others.
- `starter`: appends what starts executions, within the limits of their flows.
- `publisher`: gives events that flows emit to the flows that want them (see `router.reactions`).
- `herald`: tells flows what occurred to executions of others.
- `gatherer`: keeps those that start a flow only together, until there is one of each.
- `timekeeper`: starts flows when they are due (see `router.schedules`).

Every start has an ID that is made of what caused it, so that whatever is done again after a crash starts nothing twice.
"""
