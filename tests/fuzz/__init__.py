"""A fuzzer of the edges of a real cluster; `make fuzz` runs it (see `__main__`).

`flows` are the flows under test. `drafts` generates valid requests (`payloads` their bodies, `signing` their
signatures), `mutations` breaks them, `plans` distributes them over connections, `uploads` generates large bodies.
`sender` sends them and checks what it receives by `answers`; `publisher` serves keys to edges, `edges` runs those
beside the cluster's own one. `checks` examines the cluster afterwards. `findings` collects the results.
"""
