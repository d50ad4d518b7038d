"""Delivers events, and ends that are stored already, to the executions that wait for them.

- `event_delivery`: stores events, then delivers or buffers them.
- `completion_waits`: registers executions that wait for the ends of others, and delivers ends that are stored already.
- `parked_executions`: subscribes executions that begin to wait, and unsubscribes those that do not wait any more.
"""
