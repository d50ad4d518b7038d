import pytest

from runner.components.email_send import send as email_send
from runner.components.http import call as http
from runner.interpreter.errors import TaskFault


@pytest.mark.parametrize(
    ("component", "arguments", "detail"),
    [
        (http, {"method": "get", "endpoint": None}, "http: with.endpoint: expected a text or a mapping"),
        (http, {"method": "get"}, "http: with.endpoint: is missing"),
        (http, {"method": 5, "endpoint": {}}, "http: with.endpoint.uri: is missing; with.method: expected a text"),
        (email_send, {"to": "a@example.com", "from": "b@example.com"}, "email.send: with.subject: is missing"),
    ],
)
async def test_arguments_that_are_wrong_when_a_call_is_made_are_reported_by_name(component, arguments, detail):
    with pytest.raises(TaskFault) as caught:
        await component(arguments, None)
    assert caught.value.error.status == 400
    assert caught.value.error.detail == detail
