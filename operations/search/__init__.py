"""Searches the events of executions with conditions in jq.

- `scan`: reads events page by page, newest first, within a time budget, and has the condition evaluated.
- `evaluator`: evaluates conditions in separate processes with limits (`flowhook.sandbox`): an endless program is ended
  with its process.
- `conditions`: what these processes run.

Used by operators' processes (admin, the command line). The router only hands out the events.
"""
