"""Flow documents: CNCF Serverless Workflow 1.0, plus the keys `webhook` and `execution`.

- `loader`: builds a `FlowDocument` from a flow file or from its stored form; the entry point for the rest of Flowhook.
- `workflow`, `tasks`, `dataflow`, `events`, `schedule`, `processes`, `extensions`, `timing`, `authentication`,
  `http_call`, `calls`: models of the DSL's keys, under the DSL's names. `component_arguments`: models of the arguments
  of built-in components. `oauth2`: validation rules. Runners derive the models of evaluated arguments from these.
- `webhook`, `auth`, `execution`: models of Flowhook's own keys.
- `source`, `shape_errors`, `rules`, `unsupported`: parsing and validation of a flow file.
- `walk`, `event_filters`: iteration over the tasks and the event filters of a definition.
- `lint`: warnings about valid documents. `named_secrets`: the secrets that a document names.
- `codes`, `problems`, `validation`: the codes of problems, their places, and the errors of validators.
- `duration`, `size`, `names`, `uris`: durations such as PT5M and sizes such as 10MiB; flow names; URIs of calls.

Models are immutable and hold what was written: they evaluate nothing, and know no storage, transport or secret value.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flowhook.document.lint import located_warnings, warnings
    from flowhook.document.loader import FlowDocument, canonical, load_definition, parse

__all__ = ["FlowDocument", "canonical", "load_definition", "located_warnings", "parse", "warnings"]

_FROM: Final = {
    **dict.fromkeys(("located_warnings", "warnings"), "lint"),
    **dict.fromkeys(("FlowDocument", "canonical", "load_definition", "parse"), "loader"),
}


def __getattr__(name: str) -> Any:
    """Import the names in `__all__` on first use: an edge needs only `webhook`. Source: PEP 562."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
