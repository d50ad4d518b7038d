"""What flows react to beside requests. Pure: no I/O, no clock, no storage.

- `definition`: reads it from a flow's definition.
- `filters`: what events have to have.
- `index`: finds the flows that an event concerns.
- `gathering`: puts events together that start an execution only when there is one of each.
"""
