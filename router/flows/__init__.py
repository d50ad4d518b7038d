"""Flows as acceptance sees them: the cache of their limits, admission, statistics, and the watch of changes.

`schedules` and `event_triggers` are pure: when flows are due, and which events start them.
"""
