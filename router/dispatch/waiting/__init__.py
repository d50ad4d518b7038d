"""Ways to pass an event or an end to an execution that waits for it.

- `parked_delivery`: unparks an execution, so that an entry can be written into its journal.
- `live_delivery`: offers an entry to the runner of an execution that waits while it is running.
- `child_completion`: passes on the ends of executions, by either way, while they are being stored.

Nothing here stores a transition: that is done by `transitions`, above this package. `delivery` decides what is passed
on to whom.
"""
