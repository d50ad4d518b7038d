"""The arguments of built-in components, as far as they can be checked before a flow ever runs.

Runners check the arguments of all components when they are evaluated; those of the ones below already show when a flow
is applied whether they will do, because expressions in them give texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from flowhook.document.model import Model


class TwitterPost(Model):
    """`with` of a `call: twitter.post`.

    Attributes:
        text: how long it may be is the API's to judge: it depends on the account.
        secret: name of the secret with the credentials.
    """

    text: Annotated[str, Field(min_length=1)]
    secret: Annotated[str, Field(min_length=1)] = "twitter"  # noqa: S105 - the name of a secret


ARGUMENTS: Final[Mapping[str, type[Model]]] = {"twitter.post": TwitterPost}
"""By name of the component."""
