from runner.interpreter import event_nodes, task_nodes
from runner.interpreter.handlers import HANDLERS
from runner.interpreter.nodes import Node


def test_each_kind_of_task_has_exactly_one_handler():
    defined = {**vars(task_nodes), **vars(event_nodes)}.values()
    classes = [value for value in defined if isinstance(value, type) and issubclass(value, Node)]
    kinds = [kind for kind in classes if not any(kind in other.__bases__ for other in classes)]
    assert sorted([*HANDLERS.evaluate, *HANDLERS.execute], key=str) == sorted(kinds, key=str)
