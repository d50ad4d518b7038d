"""Flow documents: Open Workflow (formerly CNCF Serverless Workflow) 1.0, plus the keys `webhook` and `execution`.

- `loader`: builds a `FlowDocument` from a flow file or from its stored form; the entry point for the rest of Flowhook.
- `models`: the keys of the DSL, under the DSL's names, and Flowhook's own (`webhook`, `auth`, `execution`). Runners
  derive the models of evaluated arguments from these.
- `diagnostics`: parsing and validation of a flow file, and warnings about valid ones (`lint`).
- `definition`: flow IDs, and iteration over the tasks and the event filters of a definition.
- `named_secrets`: the secrets that a document names. `quantities`: durations such as PT5M and sizes such as 10MiB.

Models are immutable and hold what was written: they evaluate nothing, and know no storage, transport or secret value.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flowhook.document.diagnostics.lint import located_warnings, warnings
    from flowhook.document.loader import FlowDocument, canonical, load_definition, parse

__all__ = ["FlowDocument", "canonical", "load_definition", "located_warnings", "parse", "warnings"]

_FROM: Final = {
    **dict.fromkeys(("located_warnings", "warnings"), "diagnostics.lint"),
    **dict.fromkeys(("FlowDocument", "canonical", "load_definition", "parse"), "loader"),
}


def __getattr__(name: str) -> Any:
    """Import the names in `__all__` on first use: an edge needs only `webhook`. Source: PEP 562."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
