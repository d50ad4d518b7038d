"""Work that grows with somebody else's bytes is done in a process apart, with limits on CPU time and memory.

The rule: on an event loop, work per request is bounded by a constant, whatever its bytes; before authentication, by a
small one. A thread does not help where the work holds the interpreter's lock for its whole length, as parsers and
compilers written in C do; and nothing can end it. A process can be killed.

- `offload`: `Offload`, which runs a function in one of a few processes.
- `worker`: one such process, as its parent sees it.
- `process`: what runs in it; `frames`: how it is spoken to.
- `spawning` and `isolation`: start and set up such a process, for other kinds, too.
- `pool`: as many processes as there may be, of which no single key (a flow, say) gets all; for other kinds of
  processes, too.

Must not live here: what is worked on. Functions that are offloaded stand beside what they need, in modules that import
little: a process is started when it is needed first, and ended when it was idle for a while.
"""

from typing import Final

from flowhook import limits

INLINE_BYTES: Final = 64 * limits.KIB
"""What is no larger, and not compressed, is worked on where it is: it takes a few milliseconds at the most."""
