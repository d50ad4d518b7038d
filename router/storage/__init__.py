"""Durable state, behind one interface (`interface`, over the values of `model`, `arrivals` and `bodies`).

One conformance suite holds for all backends (tests/conformance/storage); `sqlite` is the embedded one. Backends
translate their drivers' errors into `flowhook.errors` at this boundary; no other package imports sqlite3. Payloads
(events, replies) are opaque bytes here: storage knows no protobuf.
"""
