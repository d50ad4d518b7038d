"""`/secrets`."""

from __future__ import annotations

from admin.console.page import Page
from admin.operations.table import LIST_SECRETS


class SecretsPage(Page):
    """`/secrets`: names and ages; values can be set and not read."""

    section = "secrets"

    async def show(self, *_values: str) -> None:
        """Respond with the list."""
        self.finish_page("secrets.html", secrets=(await self.run(LIST_SECRETS, {})).secrets)
