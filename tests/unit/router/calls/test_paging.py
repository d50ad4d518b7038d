"""Requests for pages say which one, or are told that they don't."""

from __future__ import annotations

import pytest

from flowhook.errors import InvalidError
from router.calls.paging import MAX_PAGE, parse_page


@pytest.mark.parametrize(
    ("size", "token", "page"),
    [
        (0, "", (50, None)),
        (-1, "", (50, None)),
        (7, "12", (7, 12)),
        (MAX_PAGE + 1, "0", (MAX_PAGE, 0)),
        (1, "9" * 30, (1, int("9" * 18))),
    ],
)
def test_a_request_says_how_many_and_before_which(size, token, page):
    assert parse_page(size, token, 50) == page


@pytest.mark.parametrize("token", ["x", "-1", "1.0", "\u0661", " 1"])
def test_a_token_that_is_none_is_refused(token):
    with pytest.raises(InvalidError) as caught:
        parse_page(0, token, 50)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"
