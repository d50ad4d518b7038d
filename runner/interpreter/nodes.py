"""The compiled form of a flow document: plain, immutable data that `program` builds and `tasks` executes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from runner.interpreter.ports import Duration, Template, Validator

CONTINUE: Final = "continue"
EXIT: Final = "exit"
END: Final = "end"


@dataclass(frozen=True, slots=True)
class DataFlowStage:
    """One stage of data flow: a transformation and a schema, applied in the order of the stage; see `dataflow`."""

    transform: Template | None = None
    schema: Validator | None = None


@dataclass(frozen=True, slots=True)
class CompiledExtension:
    """Blocks that run before and after tasks of a kind for which `when` is true.

    `reads_clock`: whether an expression of the extension reads the time, which is that of the extended task.
    """

    kind: str
    when: Template | None
    before: Block | None
    after: Block | None
    reads_clock: bool

    def extends(self, kind: str) -> bool:
        """Whether the extension applies to tasks of a kind."""
        return self.kind in ("all", kind) or (self.kind == "composite" and kind in ("do", "fork"))


@dataclass(slots=True)
class Node:
    """A task, compiled. Its subclasses are the kinds of tasks (`task_nodes`, `event_nodes`).

    Attributes:
        pointer: JSON Pointer of the task in the document.
        definition: the task as written, for `$task.definition`.
        then: flow directive after the task.
        timeout: of the task; None: no timeout.
        reads_clock: whether an expression of the task itself, or of its extensions, reads the time.
        extensions: that apply to the task, the outermost first.
        plain: whether the task has no condition, transformation, schema or timeout, and does not read the time.
        instant: whether the task only evaluates expressions between its start and its end.
        only_evaluates: whether tasks of this kind only evaluate expressions, extensions and the time aside.
    """

    name: str
    pointer: str
    definition: Mapping[str, Any]
    condition: Template | None
    input: DataFlowStage
    output: DataFlowStage
    export: DataFlowStage
    then: str
    timeout: Duration | None
    reads_clock: bool
    extensions: tuple[CompiledExtension, ...]
    plain: bool = field(init=False)
    instant: bool = field(init=False)
    only_evaluates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.instant = self.only_evaluates and not self.reads_clock and not self.extensions
        nothing = DataFlowStage()
        self.plain = (
            self.condition is None
            and self.timeout is None
            and not self.reads_clock
            and all(flow == nothing for flow in (self.input, self.output, self.export))
        )

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks that the task runs."""
        return ()

    @property
    def may_request(self) -> bool:
        """Whether the task may request anything from outside: an effect, the time, a wait."""
        return self.reads_clock or any(node.may_request for block in self.blocks for node in block.nodes)

    @property
    def waits(self) -> bool:
        """Whether the task waits by its definition, extensions aside."""
        return any(node.waits for block in self.blocks for node in block.nodes)

    @property
    def resumes(self) -> bool:
        """Whether a snapshot may be taken while the task is running."""
        return bool(self.blocks)


@dataclass(frozen=True, slots=True)
class Block:
    """Tasks that run in sequence; `index` maps their names to positions."""

    nodes: tuple[Node, ...]
    index: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Program:
    """A whole workflow, compiled."""

    definition: Mapping[str, Any]
    input: DataFlowStage
    block: Block
    output: DataFlowStage
    secrets: tuple[str, ...]
    """Names under `use.secrets`, which `$secrets` holds."""
    timeout: Duration | None = None
    input_reads_clock: bool = False
    output_reads_clock: bool = False
