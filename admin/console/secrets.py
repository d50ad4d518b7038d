"""`/secrets`."""

from __future__ import annotations

from collections.abc import Mapping

from admin.console.page import ConsolePage
from flowhook.errors import FlowhookError
from operations.operation import ParameterError
from operations.table import LIST_SECRETS, SET_SECRET


class SecretsPage(ConsolePage):
    """`/secrets`: names and ages; values can be set and not read."""

    async def show(self, *_values: str) -> None:
        query = self.query()
        await self.show_list(query.pop("name", [""])[0], query)

    async def show_list(self, name: str, query: Mapping[str, list[str]], error: FlowhookError | None = None) -> None:
        """Respond with the list, and with a form for a secret, which was not set if there is an error."""
        listed = await self.run(LIST_SECRETS, {}, query)
        self.finish_page("secrets.html", listed=listed, name=name, error=error)


class SetSecretHandler(SecretsPage):
    """Sets a secret; shows the form again, without the value, if it is not acceptable."""

    SUPPORTED_METHODS = ("POST",)
    repeats_form = False  # the value is never shown
    error_fields: Mapping[str, str] = {"SECRET_NAME_INVALID": "name", "SECRET_VALUE_INVALID": "value"}

    async def submit(self, *_values: str) -> None:
        """Set a secret from a value of one line or from `lines`, and return to the list."""
        fields = self.checked_form()
        lines = fields.pop("lines", [""])
        try:
            if any(lines) and any(fields.get("value", ())):
                raise ParameterError("give one value", {"lines": "leave this empty, or the value above"})
            if any(lines):
                fields["value"] = lines
            secret = await self.run(SET_SECRET, {}, fields)
        except FlowhookError as error:
            await self.show_list(fields.get("name", [""])[0], {}, self.form_error(error))
            return
        if self.session is not None:
            self.session.notice = f"The secret {secret.name} was set."
        self.see_other("/secrets")
