"""`/rejections` and `/rejections/ID`, and the acceptance of a refused request."""

from __future__ import annotations

import http
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from admin.console.body_view import body_view
from admin.console.page import ConsolePage, FilterForm, ListPage
from flowhook.errors import ConflictError
from flowhook.model.rejections import Acceptability
from operations.encoding import header_texts
from operations.table import ACCEPT_REJECTION, GET_REJECTION, LIST_REJECTIONS

MAX_COUNTS: Final = 20  # counts that the list shows; the API has all of them
# what a reason means and what to do about it, as in docs/http.md
ADVICE: Final[Mapping[str, str]] = {
    "CREDENTIALS_MISSING": "The request has no credentials: set them at the sender.",
    "CREDENTIALS_MALFORMED": "The credentials can't be read, or are there twice.",
    "CREDENTIALS_WRONG": "Another user name, password or key. Compare the flow's secret with that of the sender.",
    "SIGNATURE_MISSING": "There is no signature: the sender is another provider, or has no secret set.",
    "SIGNATURE_MALFORMED": "The signature is not in the form that the flow's auth expects.",
    "SIGNATURE_MISMATCH": "The sender signs with another secret, or something on the way changes the body.",
    "KEY_UNKNOWN": "The sender's keys contain no such key: it was withdrawn, or is forged.",
    "BODY_UNSIGNED": "The request has a body that the signature does not cover.",
    "TIMESTAMP_MALFORMED": "The time of signing can't be read: is timestamp.unit right?",
    "TIMESTAMP_STALE": "It was signed too long ago, or a clock is wrong: synchronise it, or raise the tolerance.",
    "SECRET_NOT_SET": "The flow's secret has no value yet: set it.",
    "SECRET_INVALID": "The flow's secret does not have the form that its auth needs: set it again.",
    "BODY_INVALID": "The body is not what its Content-Type or Content-Encoding says.",
    "BODY_TOO_LARGE": "The body is larger than the flow's max_body, or than what can be verified.",
    "METHOD_NOT_ALLOWED": "The method is not one of the flow's methods.",
    "ADDRESS_FORBIDDEN": "The sender's address is not in allow_from.",
    "SENDER_RATE_LIMITED": "This sender has used up the sender_rate_limit. It was asked to send again later.",
    "RATE_LIMITED": "The rate_limit is used up. The sender was asked to send again later.",
    "RATE_KEYS_FULL": "Too many keys of the flow's rate are in use. The sender was asked to send again later.",
    "SCHEMA_VIOLATED": "It is not what the flow's accept.schema demands. Correct the sender, or the schema.",
    "FILTER_FAILED": "The flow's accept.filter fails on it: correct the filter. The sender was asked to send again.",
    "ACCEPT_TOO_COSTLY": "The flow's accept.filter and accept.schema take too long: make them simpler.",
    "FILTERED": "The flow's accept.filter is false for it: nothing runs.",
    "BACKLOG_FULL": "The flow has too many unfinished events. The sender was asked to send again later.",
}
# why a refused request can't be accepted
OBSTACLES: Final[Mapping[Acceptability, str]] = {
    Acceptability.UNKNOWN: "It was reported by an earlier version.",
    Acceptability.NOT_AUTHENTICATION: "It was not refused for its credentials: the sender has to send a new one.",
    Acceptability.NOT_STORED: "The flow does not store refused requests. With webhook.keep_rejected_bodies it does.",
    Acceptability.INCOMPLETE: "Not all of it was received, or it has more than 64 KiB.",
    Acceptability.NOT_REFUSED: "It was not refused.",
    Acceptability.ONE_TIME_URL: "It was sent to a one-time URL, whose token is not stored.",
}


class RejectionsPage(ListPage):
    """`/rejections`: refused requests, newest first."""

    operation, template, values = LIST_REJECTIONS, "rejections.html", MappingProxyType({"max_counts": MAX_COUNTS})
    filter_form = FilterForm("rejections_form.html", "Rejections", LIST_REJECTIONS)


class RejectionDetailPage(ConsolePage):
    """`/rejections/ID`: a refused request."""

    async def show(self, *values: str) -> None:
        await self.show_rejection(values[0])

    async def show_rejection(self, rejection_id: str, problem: str = "") -> None:
        detail = await self.run(GET_REJECTION, {"rejection_id": rejection_id}, {})
        cause = detail.detail.removesuffix(f"; {detail.diagnosis}") if detail.diagnosis else detail.detail
        self.finish_page(
            "rejection.html",
            detail=detail,
            rejection=detail,
            cause="" if cause == detail.reason else cause,
            advice=ADVICE.get(detail.reason, ""),
            obstacle=OBSTACLES.get(detail.acceptability, ""),
            problem=problem,
            fields=header_texts(detail.headers),
            body=body_view(detail.body) if detail.body else None,
        )


class AcceptHandler(RejectionDetailPage):
    """Accepts a request; shows it again, with the reason, if it is still refused."""

    SUPPORTED_METHODS = ("POST",)

    async def submit(self, *values: str) -> None:
        fields = self.checked_form()
        try:
            await self.run(ACCEPT_REJECTION, {"rejection_id": values[0]}, fields)
        except ConflictError as error:
            self.set_status(http.HTTPStatus.CONFLICT)
            await self.show_rejection(values[0], error.message)
        else:
            self.see_other(f"/rejections/{quote(values[0], safe='')}")
