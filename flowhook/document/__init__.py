"""Flow documents: CNCF Serverless Workflow 1.0, plus the keys `webhook` and `execution`.

- `loader`: text to `FlowDocument`, and stored form to `FlowDocument`; what the rest of Flowhook calls.
- `workflow`, `tasks`, `dataflow`, `events`, `schedule`, `processes`, `extensions`, `timing`, `authentication`, `http`,
  `calls`: the DSL's part as models, under the DSL's names. `oauth2`: rules that the runner has, too.
- `webhook`, `auth`, `execution`: our part.
- `source`, `shape`, `rules`, `unsupported`: how a file is read and what is checked.
- `walk`, `filters`: the tasks and the event filters of a definition.
- `hints`: what is valid and hardly meant. `named_secrets`: where secrets are named.
- `duration`, `size`, `names`, `uris`: PT5M and 10MiB; what flows are called; where calls go.

Models are immutable and hold what was written: they evaluate nothing, and know no storage, transport or secret value.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flowhook.document.hints import located_warnings, warnings
    from flowhook.document.loader import FlowDocument, canonical, load_definition, parse

__all__ = ["FlowDocument", "canonical", "load_definition", "located_warnings", "parse", "warnings"]

_FROM: Final = {
    **dict.fromkeys(("located_warnings", "warnings"), "hints"),
    **dict.fromkeys(("FlowDocument", "canonical", "load_definition", "parse"), "loader"),
}


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is first asked for: an edge needs `webhook` alone. Source: PEP 562."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
