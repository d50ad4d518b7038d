"""Assigns ready executions to runners.

- `dispatcher`: sends assignments that are in the memory cache at once, and has the others loaded.
- `loader`: reads events and journals from storage.
- `event_cache`: memory cache of recently accepted events.
"""
