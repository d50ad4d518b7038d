"""What `bench.fuzz_edge` is made of.

`flows` are what is sent to, `drafts` makes valid requests (`payloads` their bodies, `signing` and `keys` their
signatures), `mutations` breaks them, `plans` puts them on connections, `uploads` does so for large bodies. `sender`
sends them and judges what comes back by `answers`; `publisher` is where edges fetch keys from, `edges` are those beside
the one of the cluster. `checks` looks at the cluster afterwards. `findings` keeps what was seen.
"""
