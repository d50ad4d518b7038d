import pytest
from support.cases import cases

from flowhook.errors import InvalidError
from router.storage.commit_log.jetstream.url import parse_url


def test_what_is_left_out_has_a_default():
    url = parse_url("nats://a")
    assert url.servers == ("a:4222",)
    assert url.monitors == ("a:8222",)
    assert (url.tls, url.user, url.password) == (False, "", "")
    assert (url.replicas, url.trust_fsync, url.prefix, url.max_bytes) == (3, False, "FLOWHOOK", None)


def test_all_parts():
    url = parse_url(
        "tls://user:p%40ss%3A@a:1,[::1]:2,c?replicas=5&fsync=trust&prefix=TEST_1&max_bytes=2G&monitor=a:3,http://b"
    )
    assert url.servers == ("a:1", "[::1]:2", "c:4222")
    assert url.monitors == ("a:3", "b:8222")
    assert (url.tls, url.user, url.password) == (True, "user", "p@ss:")
    assert (url.replicas, url.trust_fsync, url.prefix, url.max_bytes) == (5, True, "TEST_1", 2 << 30)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("512K", 512 << 10), ("3M", 3 << 20), ("1T", 1 << 40)])
def test_sizes(text, number):
    assert parse_url(f"nats://a?max_bytes={text}").max_bytes == number


@cases(
    ("url", "named"),
    [
        ("http://a", "nats://"),
        ("a:4222", "nats://"),
        ("nats://", "host:port"),
        ("nats://a,", "host:port"),
        ("nats://a:port", "host:port"),
        ("nats://a/path", "path"),
        ("nats://a#part", "path"),
        ("nats://a?replicas=2", "replicas"),
        ("nats://a?replicas=", "replicas"),
        ("nats://a?fsync=no", "fsync=trust"),
        ("nats://a?prefix=lower", "prefix"),
        ("nats://a?prefix=A.B", "prefix"),
        ("nats://a?max_bytes=0", "max_bytes"),
        ("nats://a?max_bytes=2X", "max_bytes"),
        ("nats://a?max_bytes=-1", "max_bytes"),
        ("nats://a?monitor=:1", "host:port"),
        ("nats://a?replica=1", "replica"),
        ("nats://a?replicas=1&replicas=3", "once"),
    ],
)
def test_what_is_wrong_is_named(url, named):
    with pytest.raises(InvalidError) as caught:
        parse_url(url)
    assert caught.value.reason == "LOG_URL_INVALID"
    assert named in caught.value.message


def test_no_error_and_no_repr_shows_the_password():
    assert "secret" not in repr(parse_url("nats://user:secret@a"))
    with pytest.raises(InvalidError) as caught:
        parse_url("nats://user:secret@a:b:c")
    assert "secret" not in caught.value.message


def test_a_token_is_a_secret():
    url = parse_url("nats://secret@a")
    assert (url.user, url.password) == ("", "secret")
    assert "secret" not in repr(url)


def test_a_question_mark_in_a_password_does_not_show_the_rest_of_it():
    with pytest.raises(InvalidError, match="%3F") as caught:
        parse_url("nats://user:pass?secret=secret@a")
    assert "secret" not in caught.value.message
