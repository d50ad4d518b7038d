"""Settings that contain a secret: from a variable, or from a file that a variable with `_FILE` names.

Such a setting is no argument of a command: those are visible to everybody on the machine. A file is also better than a
variable, which the process's children inherit, and which tools print.

It is a convention of container images. Source: https://docs.docker.com/compose/how-tos/use-secrets/.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, get_args

from pydantic import SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_PREFIX: Final = "FLOWHOOK_"
SUFFIX: Final = "_FILE"
MAX_BYTES: Final = 64 * 1024  # size of the largest file that is read
_CREDENTIALS: Final = re.compile(r"://[^/?#\s]*@")


class _MayHaveSecret:
    """Marks a setting that is no secret, but may contain one."""


MayHaveSecret = Annotated[str, _MayHaveSecret()]  # a text that may contain a secret, such as a URL with a password


class FileSettings(BaseSettings):
    """Settings from options, variables, and files that variables name; base class of all settings."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        found = dict(given)
        for name, field in cls.model_fields.items():
            variable = ENV_PREFIX + name.upper()
            path = os.environ.get(variable + SUFFIX) if is_confidential(field) else None
            if not path:
                continue
            if os.environ.get(variable):
                raise ValueError(f"{variable} and {variable}{SUFFIX} are set: unset one of them")
            if found.get(name) is None:
                found[name] = _read(variable + SUFFIX, Path(path))
        return found


def is_confidential(field: FieldInfo) -> bool:
    """Whether a setting is a secret, or may contain one."""
    is_secret = field.annotation is SecretStr or SecretStr in get_args(field.annotation)
    return is_secret or any(isinstance(each, _MayHaveSecret) for each in field.metadata)


def has_credentials(text: str) -> bool:
    """Whether a text is a URL with a user, a password or a token."""
    return bool(_CREDENTIALS.search(text))


def without_credentials(text: str) -> str:
    """Return a text, for people, without the user, the password or the token of a URL."""
    return _CREDENTIALS.sub("://", text)


def _read(variable: str, path: Path) -> str:
    """Return the content of a file, without the end of its line; the message of an error has nothing of it."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{variable}: can't read {path}: {os.strerror(error.errno or 0)}") from None
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text or len(content) > MAX_BYTES or "\n" in text:
        raise ValueError(f"{variable}: {path} must have one line of text, and nothing else")
    return text
