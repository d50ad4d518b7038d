"""Parsers of request bodies: convert bytes and their media type to data and attachments.

Lives here: one module per format, `content_encoding` for compressed bodies, and `parsing`, which selects the format;
`multipart` also splits bodies that are never in memory as a whole. Must not live here: I/O, signatures, anything
specific to one provider.

Invariants: pure functions of authenticated bytes. For any input they return, or raise `InvalidError` and nothing else.
Time and memory are bounded by the limits in each module. A non-empty body yields data or an attachment: no content is
accepted and then lost.
"""
