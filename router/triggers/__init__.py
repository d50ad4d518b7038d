"""What starts an execution without a request: schedules, other flows, and the events that these emit.

The ID of every start is derived from its cause, so that work repeated after a crash starts nothing twice.
"""
