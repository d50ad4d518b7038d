from runner.interpreter import nodes
from runner.interpreter.handlers import HANDLERS
from runner.interpreter.nodes import Node


def test_each_kind_of_task_has_exactly_one_handler():
    classes = [value for value in vars(nodes).values() if isinstance(value, type) and issubclass(value, Node)]
    kinds = [kind for kind in classes if not any(kind in other.__bases__ for other in classes)]
    assert sorted([*HANDLERS.evaluate, *HANDLERS.execute], key=str) == sorted(kinds, key=str)
