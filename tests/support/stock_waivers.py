"""What Tornado's own `HTTPServer` can't do for the edge: tests that fail on it, and why. A waiver that is stale fails.

The tests of `MODULES` run on both servers. The others are about the edge's server itself: deadlines, limits, draining,
half-closed connections, TLS with names of certificates, the PROXY protocol; or about what no server has a part in.
"""

from __future__ import annotations

MODULES = {"test_accepting", "test_refusing", "test_replying", "test_router_failures", "test_streaming"}

SECONDS = 5
"""After which a waived test that waits for what never happens has failed."""

MALFORMED = "Tornado answers malformed requests itself, without a reason"
NOT_ANNOUNCED = "Tornado reads the body of a request that was answered, for however long, before it closes"
CONTINUE = "Tornado's reason phrase of 100 is not the one of RFC 9110"

RESET = "Tornado closes a connection with bytes that it did not read, which resets it: the response may be lost"
MAYBE_RESET = ("test_streaming.py::*refused*", "test_streaming.py::test_a_router_that_goes_away_in_the_middle*")
"""Tests that are skipped on it when their connection is reset, which depends on how far the sender is."""

WAIVERS = {
    "test_accepting.py::test_the_request_is_retained_as_it_arrived_but_for_credentials_and_hop_by_hop_fields": (
        "Tornado's HTTPHeaders loses the order of fields of different names"
    ),
    "test_accepting.py::test_a_sender_that_expects_it_gets_a_100_continue": CONTINUE,
    "test_refusing.py::test_what_is_no_request_gets_the_reason*REQUEST_MALFORMED": MALFORMED,
    "test_refusing.py::test_what_is_no_request_gets_the_reason*HEADER_MALFORMED": MALFORMED,
    "test_refusing.py::test_what_is_no_request_gets_the_reason*HEADER_TOO_LARGE": MALFORMED,
    "test_refusing.py::test_what_is_no_request_gets_the_reason*HTTP_VERSION_UNSUPPORTED": MALFORMED,
    "test_refusing.py::TestRefusedAndGoingOn::test_one_whose_body_is_not_read_ends": NOT_ANNOUNCED,
    "test_refusing.py::TestWithoutASignature::test_a_signature_of_any_value_may_be_one": CONTINUE,
    "test_refusing.py::TestTooLarge::test_the_connection_is_drained_for_a_second_at_most": NOT_ANNOUNCED,
    "test_replying.py::test_a_sender_who_goes_away_ends_the_call*after an empty line": (
        "Tornado does not look at a connection while it has unread input"
    ),
    "test_replying.py::test_a_sender_who_has_only_ended_its_side_gets_the_answer*": (
        "Tornado's IOStream closes both sides when the sender has ended one"
    ),
    "test_replying.py::test_whoever_is_held_when_the_edge_stops_learns_where_the_answer_will_be": (
        "Tornado does not drain: connections are closed, whatever is in progress on them"
    ),
    "test_streaming.py::test_a_malformed_chunk_is_refused_and_the_body_given_up": MALFORMED,
    "test_streaming.py::test_a_sender_that_stands_still_is_cut_off_and_one_that_keeps_a_minimum_rate_is_not": (
        "Tornado has one timeout for a whole body, and no minimum rate"
    ),
    "test_streaming.py::test_a_sender_that_waits_for_100_continue_gets_it_once_the_router_takes_the_body": CONTINUE,
}
"""Reasons by module and test; `*` stands for the rest of a name, up to the given parameter."""
