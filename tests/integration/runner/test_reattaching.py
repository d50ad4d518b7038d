"""A router that was away for long is found again in time for it to take the work back."""

from __future__ import annotations

from flowhook.client import owner_watch
from flowhook.client.channel import CHANNEL_OPTIONS
from flowhook.retrying import CALL
from router.process.serving import REATTACH_SECONDS

JITTER = 1.2
"""Of the channel's pauses; source: https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md."""


def test_the_longest_pauses_of_channel_and_attachment_are_shorter_than_what_a_restarted_router_waits():
    channel = dict(CHANNEL_OPTIONS)["grpc.max_reconnect_backoff_ms"] / 1000
    assert channel * JITTER + CALL.limit < REATTACH_SECONDS


def test_so_are_they_where_several_routers_are_watched_for_the_one_that_serves():
    channel = dict(CHANNEL_OPTIONS)["grpc.max_reconnect_backoff_ms"] / 1000
    assert channel * JITTER + owner_watch.WATCHES.limit + CALL.limit < REATTACH_SECONDS
