"""Durable state behind one interface: `interface`, with `model`, `inbound_events`, `activity` and `bodies`.

One conformance suite applies to all backends (tests/conformance/storage); `sqlite` is the embedded one. Backends
translate their drivers' errors into `flowhook.errors` at this boundary; no other package imports apsw. Payloads
(events, replies) are opaque bytes: storage does not depend on protobuf.
"""
