from runner import component_names
from runner.components import registry


def test_the_names_are_those_of_the_components():
    assert {each.name for each in registry.BUILT_IN} == component_names.BUILT_IN
    assert {each.name for each in registry.TASKS} == component_names.TASKS
    assert registry.callable_components().keys() == component_names.component_names()
