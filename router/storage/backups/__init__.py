"""Backups: one file that has the whole storage at one position, made while a router runs, and what restores it.

`archive` is the file. `making` writes it: a copy of the database of the embedded storage, or what a replicated log has
up to a position, with all large payloads and bodies. `restoring` makes a database of it, or fills an empty log.
`targets` is where files lie, and which of them are removed. All of it blocks, and runs in processes of its own: a
router never waits for it.

A backup has nothing that lets somebody in: no key, and of tokens only hashes. Who restores it needs the key of secrets.
"""
