"""Verification of the signatures and credentials of requests, and signing of requests as a sender.

Lives here: one `Verifier` per kind of `auth` (`flowhook.document.models.auth`), and `sign`. Must not live here: schemes
of providers (`flowhook.providers`), HTTP, storage, the fetching of secrets; handshakes.

Invariants: the raw bytes are verified before they are parsed. `verify` raises `SignatureError` and nothing else,
whatever was sent, and never returns a boolean. Values are compared in constant time. The work is bounded by the size
of the body times the number of secrets; parsing a body before verification has limits of its own (`JsonBody`). No
error, repr or log contains the value of a secret. A kind that needs a secret refuses every request while none is set.
"""
