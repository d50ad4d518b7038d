"""Durable state, behind one interface (`interface`), with one conformance suite (tests/conformance/storage).

`sqlite` is the embedded backend. Backends translate their drivers' errors into `flowhook.errors` at this boundary; no
other package imports sqlite3. Payloads (events, replies) are opaque bytes here: storage knows no protobuf.
"""
