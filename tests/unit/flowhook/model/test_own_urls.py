from __future__ import annotations

from support.cases import cases

from flowhook.model.own_urls import OwnUrl, find, host_name, shown_url


@cases(
    ("host", "path", "found"),
    [
        ("h", "/a", ["one"]),
        ("i", "/a", []),
        ("i", "/b", ["two"]),
        ("i", "/b/c/d", ["two"]),
        ("h", "/b/c/d", ["three", "two"]),
        ("h", "/bc", []),
        ("h", "/d/", ["four"]),
        ("h", "/d/e", ["four"]),
        ("h", "/d", []),
        ("h", "*", []),
        ("h", "/b" + "/x" * 1000, ["two"]),
    ],
)
def test_what_is_known_of_a_request_is_found_by_its_path_and_those_above_it(host, path, found):
    known = {("h", "/a"): "one", ("", "/b"): "two", ("h", "/b/c"): "three", ("", "/d/"): "four"}

    assert list(find(known, host, path)) == found


def test_a_suffix_is_what_follows_the_url():
    url = OwnUrl("h", "/a", deeper=True)

    assert [url.suffix(path) for path in ("/a", "/a/", "/a/b/c")] == [None, "", "b/c"]
    assert [url.takes("h", path) for path in ("/a", "/a/b", "/ab", "/")] == [True, True, False, False]
    assert not url.takes("i", "/a")


def test_the_host_of_a_request_has_no_port():
    assert [host_name(each) for each in ("A.example:80", "a.example", "[::1]:8080", "[::1]")] == [
        "a.example", "a.example", "[::1]", "[::1]",
    ]  # fmt: skip


@cases(
    ("base", "own", "shown"),
    [
        ("http://127.0.0.1:8080", None, "http://127.0.0.1:8080/hook/f"),
        ("http://127.0.0.1:8080", OwnUrl("", "/a"), "http://127.0.0.1:8080/a"),
        ("http://127.0.0.1:8080", OwnUrl("h.example", "/a"), "http://h.example:8080/a"),
        ("http://[::1]:8080", OwnUrl("h.example", "/a"), "http://h.example:8080/a"),
        ("http://[::1]", OwnUrl("h.example", "/a"), "http://h.example/a"),
        ("", OwnUrl("h.example", "/"), "https://h.example/"),
        ("", OwnUrl("", "/a"), "/a"),
    ],
)
def test_a_host_of_its_own_takes_the_place_of_the_other_and_leaves_the_port(base, own, shown):
    assert shown_url(base, "f", own) == shown
