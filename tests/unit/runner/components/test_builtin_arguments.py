"""The keys of built-in components are modelled once: runners narrow the types of evaluated values, and add no key."""

import inspect
import re
from importlib import import_module
from importlib.metadata import entry_points

import pytest
from pydantic import ValidationError
from support.cases import cases

from flowhook.document.models import calls
from runner.component_names import ENTRY_POINT_GROUP
from runner.components import http
from runner.components.registry import components

WRITTEN = {**calls.FUNCTION_ARGUMENTS, **calls.COMPONENT_ARGUMENTS}


def keys_of(model):
    return {field.alias or name: field.is_required() for name, field in model.model_fields.items()}


@cases("name", WRITTEN)
def test_a_runner_validates_by_a_subclass_with_the_same_keys(name):
    evaluated = components()[name].model
    assert issubclass(evaluated, WRITTEN[name])
    assert keys_of(evaluated).keys() == keys_of(WRITTEN[name]).keys()
    # a subscription goes to another model: what is evaluated for one call is a message
    required = {key for key, is_required in keys_of(evaluated).items() if is_required}
    assert required == {"asyncapi": {"message"}}.get(name, set()) | {
        key for key, is_required in keys_of(WRITTEN[name]).items() if is_required
    }


def test_the_arguments_that_name_secrets_are_known():
    modules = {each.name: import_module(each.module) for each in entry_points(group=ENTRY_POINT_GROUP)}
    assert {
        name: key
        for name in calls.COMPONENT_ARGUMENTS.keys() & modules.keys()
        for key in re.findall(r"context\.secret\(arguments\.(\w+)", inspect.getsource(modules[name]))
    } == calls.SECRET_ARGUMENTS


@cases(
    ("name", "arguments"),
    [
        ("reply", {"status": "${ .status }"}),
        ("webhook.send", {"url": "https://x.y", "body": 1, "secret": "s", "headers": "${ .headers }"}),
        ("email.send", {"to": "${ .to }", "from": "a@x.y", "subject": "s", "text": "t"}),
        ("http", {"method": "get", "endpoint": "https://x.y", "headers": "${ .headers }"}),
        ("http", {"method": "put", "endpoint": "https://x.y", "multipart": "${ .fields }"}),
        ("grpc", {"service": {"name": "a.B", "host": "${ .host }"}, "method": "C"}),
        ("openapi", {"document": {"endpoint": "https://x.y"}, "operationId": "a", "parameters": "${ .p }"}),
    ],
)
def test_an_expression_is_for_the_file_and_a_value_like_one_is_refused_at_run_time(name, arguments):
    WRITTEN[name].model_validate(arguments)
    with pytest.raises(ValidationError):
        components()[name].model.model_validate(arguments)


def test_a_policy_that_is_only_referred_to_is_replaced_before_a_call():
    endpoint = {"uri": "https://x.y", "authentication": {"use": "crm"}}
    arguments = {"method": "get", "endpoint": endpoint}
    WRITTEN["http"].model_validate(arguments)
    with pytest.raises(ValidationError):
        http.EvaluatedHttpArguments.model_validate(arguments)


@pytest.mark.parametrize("field", [{"name": "", "value": 1}, {"name": "a", "attachment": None}])
def test_a_part_of_a_form_is_complete_once_it_is_evaluated(field):
    with pytest.raises(ValidationError):
        http.FormField.model_validate(field)
