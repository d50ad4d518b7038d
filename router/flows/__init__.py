"""Flows as acceptance sees them: the cache of their limits, admission, statistics, and the watch of changes."""
