"""The router as a process: composition roots, serving as owner, standing by, and removing what is past retention."""
