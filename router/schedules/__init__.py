"""When flows are started by time. Pure: no I/O, no clock, no storage.

- `timetable`: what `schedule.cron`, `every` and `after` mean: when a flow is due next.
- `agenda`: all flows that are started by time, and which of them are due.

Times are Unix milliseconds of a clock that may be set forward and back. The present is what callers say it is.
"""
