"""`/secrets`."""

from __future__ import annotations

from admin.console.page import Page
from admin.operations.table import LIST_SECRETS


class SecretsPage(Page):
    """`/secrets`: names and ages; values can be set and not read."""

    section = "secrets"

    async def show(self, *_values: str) -> None:
        """Respond with the list, and with a form for the secret that the URL names."""
        query = self.query()
        name = query.pop("name", [""])[0]
        self.finish_page("secrets.html", listed=await self.run(LIST_SECRETS, {}, query), name=name)
