"""Converts Attach messages between protobuf and `flowhook.attach.messages`, in both directions.

Nothing else touches the protobuf classes of Attach. `requests` has what runners send, `responses` what routers send.

Encoding fills a message in place: a message that is composed of finished parts copies each of them once for each level,
which takes three times as long. Decoding checks no more than what would make the conversion itself expensive.
"""

from flowhook.attach.codec.requests import (
    Request,
    decode_request,
    encode_requests,
    exit_outcome_from_proto,
    exit_outcome_to_proto,
)
from flowhook.attach.codec.responses import Response, decode_response, encode_responses

__all__ = [
    "Request",
    "Response",
    "decode_request",
    "decode_response",
    "encode_requests",
    "encode_responses",
    "exit_outcome_from_proto",
    "exit_outcome_to_proto",
]
