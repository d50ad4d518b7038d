"""Triggers and event subscriptions of flows, other than requests. Pure: no I/O, no clock, no storage.

- `definition`: reads them from a flow's definition.
- `filters`: compiled event filters.
- `index`: finds the flows that want an event.
- `event_correlation`: correlates events that start an execution only together, one for each filter.
"""
