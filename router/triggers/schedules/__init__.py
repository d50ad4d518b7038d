"""Schedules of flows that are started by time. Pure: no I/O, no clock, no storage.

- `schedule_spec`: computes the next due time of `schedule.cron`, `every` and `after`.
- `schedule_queue`: queue of all scheduled flows, ordered by due time.

Times are Unix milliseconds of a clock that may be set forward and back. Callers pass the current time.
"""
