"""Program of a process that computes traces: `flowhook.offload.process`, with the interpreter imported in advance.

The imports take half a second of CPU time, which must not count against the limit of the first trace.
"""

from __future__ import annotations

from flowhook.offload.process import main
from runner.tracing import replay

__all__ = ["replay"]

if __name__ == "__main__":
    main()
