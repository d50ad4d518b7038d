"""What the body of a request says, as far as the edge has to know."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Content(NamedTuple):
    """What a body says.

    Attributes:
        body: attachments aside; of a large one, what the endpoint looks at.
        order_key: of a large one; None: it is still to be made of `body`.
        dedupe: text of the dedupe key, likewise.
    """

    body: Any
    order_key: str | None = None
    dedupe: str | None = None


EMPTY: Final = Content(None)
