"""Runs work on untrusted input in separate processes, with limits on CPU time and memory; starts child processes.

docs/architecture.md has the rule, and why threads don't help. A process can be killed. Its CPU time decides, not wall
time: on a busy machine innocent calls would be ended.

- `offload`: `Offload`, which runs a function in one of a few processes.
- `worker`: the parent's handle of one such process.
- `process`: the program of that process, which sets its own limits; `frames`: the protocol between the two.
- `pool`: a process pool in which no single key (a flow, for example) can occupy all processes.
- `spawning`: starts a process of any kind. `forking`: has processes forked by another, which runs `fork_server`.

Must not live here: the functions that are offloaded. They live beside the code that needs them, in modules that import
little, because a process is started on demand and ended after it was idle for a while.
"""

from typing import Final

from flowhook import limits

# input up to this size that is not compressed is processed inline: that takes a few milliseconds at most
INLINE_BYTES: Final = 64 * limits.KIB
