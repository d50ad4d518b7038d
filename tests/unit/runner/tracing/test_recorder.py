"""Values of a trace are bounded, and hold no token of a one-time URL."""

from __future__ import annotations

from support.cases import cases

from flowhook.events import ids
from flowhook.model.execution_trace import MAX_BYTES, MAX_VALUE_BYTES
from flowhook.security import callback_tokens
from runner.tracing.recorder import PLACEHOLDER, ValueTable, mentions_secrets, placeholders

ID = "evt_01999999990000000000000000"


def test_a_value_is_stored_once():
    values, value = ValueTable(), {"a": [1]}
    assert values.add(value) == values.add(value) == 0
    assert values.values[0].text == '{"a":[1]}'


def test_equal_values_are_stored_once():
    values = ValueTable()
    assert values.add({"a": [1]}) == values.add({"a": [1]}) == values.add_json(b'{"a":[1]}') == 0
    assert values.add_json(b'{"a": [1]}') == 1


def test_a_large_value_is_cut_between_characters():
    values = ValueTable()
    values.add("ä" * MAX_VALUE_BYTES)
    (value,) = values.values
    assert value.cut
    assert value.size == 2 * MAX_VALUE_BYTES + 2
    assert value.text == '"' + "ä" * ((MAX_VALUE_BYTES - 1) // 2)


def test_all_values_together_are_bounded():
    values = ValueTable()
    for number in range(100):
        values.add(f"{number}" * MAX_VALUE_BYTES)
    assert sum(len(value.text) for value in values.values) <= MAX_BYTES
    assert values.values[-1].cut
    assert values.values[-1].text == ""


def test_tokens_of_one_time_urls_are_masked():
    values = ValueTable()
    token = callback_tokens.issue(bytes(32), ID, "approval", 3)
    values.add({"url": f"https://example.com/hook/f/approval/{token}?x"})
    assert values.values[0].text == '{"url":"https://example.com/hook/f/approval/•••?x"}'
    # a flow may pass it to another execution
    other = callback_tokens.issue(bytes(32), ids.mint(7), "approval", 0)
    values.add([other])
    assert values.values[1].text == '["•••"]'
    values.add(text := f"{ID}.0.{'a' * 42} 1.2.3 {'a' * 26}.b.{'c' * 43}")
    assert values.values[2].text == f'"{text}"'


def test_a_value_that_is_nested_too_deeply_says_so():
    value = []
    for _ in range(2000):
        value = [value]
    values = ValueTable()
    values.add(value)
    assert values.values[0].text == '"(nested too deeply)"'


@cases(
    ("expression", "value"),
    [
        ("${ $secrets.key }", PLACEHOLDER),
        ('${ $secrets["key"] }', PLACEHOLDER),
        ("${ $secrets.keyring.name }", PLACEHOLDER),
        ("${ $secrets.key.user }", {"user": PLACEHOLDER}),
        ('${ $secrets["key"].client["id"] }', {"client": {"id": PLACEHOLDER}}),
        ("${ $secrets.key.client.id + $secrets.key.client.secret }", {"client": {"id": "•••", "secret": "•••"}}),
    ],
)
def test_a_secret_is_a_text_or_has_the_members_that_expressions_read(expression, value):
    assert placeholders(["key"], {"do": [{"x": {"set": {"y": expression}}}]}) == {"key": value}


def test_a_secret_of_a_policy_has_credentials():
    policy = {"authentication": {"basic": {"use": "key"}}}
    found = placeholders(["key"], {"do": [{"x": {"call": "http", "with": {"endpoint": policy}}}]})
    assert (found["key"]["username"], found["key"]["password"]) == (PLACEHOLDER, PLACEHOLDER)


def test_mentions_are_found_in_expressions_and_policies():
    assert mentions_secrets({"set": {"x": "${ $secrets.a }"}})
    assert mentions_secrets({"with": [{"authentication": {"bearer": {"use": "a"}}}]})
    assert not mentions_secrets({"set": {"x": "${ .secrets }"}})
