"""What of a URL may be shown."""

from __future__ import annotations

from yarl import URL

from runner.outbound.http_response import public_url


def test_a_url_is_shown_without_credentials_query_and_fragment():
    assert public_url(URL("https://u:p@x.example:8443/a?key=s#f")) == "https://x.example:8443/a"


def test_the_url_of_a_flow_with_secrets_is_shown_without_its_path():
    assert public_url(URL("https://u:p@x.example:8443/a?key=s#f"), hide_path=True) == "https://x.example:8443"
