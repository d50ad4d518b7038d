"""What a flow may say of a built-in component is checked when it is applied, and again when it is called."""

import pytest

from flowhook.document.component_arguments import ARGUMENTS
from runner.components.registry import components


def keys_of(model):
    return {field.alias or name: field.is_required() for name, field in model.model_fields.items()}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_both_checks_know_the_same_keys_and_ask_for_the_same(name):
    assert keys_of(ARGUMENTS[name]) == keys_of(components()[name].model)
