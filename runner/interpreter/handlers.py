"""The table of task kinds: which function executes which class of node."""

from __future__ import annotations

from typing import Final

from runner.interpreter import composite_tasks, effect_tasks, extensions, listen_task, simple_tasks, try_task
from runner.interpreter.event_nodes import ListenNode
from runner.interpreter.state import TaskHandlers
from runner.interpreter.task_nodes import (
    CallNode,
    DoNode,
    EmitNode,
    ForkNode,
    ForNode,
    FunctionNode,
    RaiseNode,
    RunNode,
    SetNode,
    SwitchNode,
    TryNode,
    WaitNode,
)

HANDLERS: Final = TaskHandlers(
    evaluate={
        RaiseNode: simple_tasks.raise_error,
        SetNode: simple_tasks.set_data,
        SwitchNode: simple_tasks.switch,
    },
    execute={
        CallNode: effect_tasks.call,
        DoNode: composite_tasks.run_do,
        EmitNode: effect_tasks.emit,
        ForkNode: composite_tasks.run_fork,
        ForNode: composite_tasks.run_for,
        FunctionNode: composite_tasks.run_function,
        ListenNode: listen_task.run_listen,
        RunNode: effect_tasks.run,
        TryNode: try_task.run_try,
        WaitNode: simple_tasks.wait,
    },
    extend=extensions.run_extended,
)
