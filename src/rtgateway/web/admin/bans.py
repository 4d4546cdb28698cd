"""``/gateway/bans``: who is banned; bans by hand, and their end."""

from __future__ import annotations

from heapq import nsmallest
from typing import Any

from twisted.web.server import Request

from rtgateway.observe.limit_views import BanView
from rtgateway.store.bans import LONGEST_BAN, LONGEST_TEXT
from rtgateway.web.admin.audit import auditing
from rtgateway.web.admin.page import Answer, answer, body_of, refusal
from rtgateway.web.admin.parameters import Window, parameters, wrong
from rtgateway.web.admin.subjects import client_of
from rtgateway.web.admin.times import Moment, iso
from rtgateway.web.admin.view import GatewayView
from rtgateway.web.admin.waiting import WaitingPage

__all__ = ["BansPage"]

_REASON = "banned by an operator"


class BansPage(WaitingPage):
    """All bans."""

    def __init__(self, gateway: GatewayView) -> None:
        super().__init__(gateway.reactor, GET=self._list, POST=self._ban, DELETE=self._lift)
        self._gateway = gateway

    async def _list(self, request: Request) -> Answer:
        query = parameters(request, "limit", "after", "subject")
        window = Window.of(query)
        bans = list(self._gateway.bans.all())
        if "subject" in query:
            subject = client_of(query["subject"])
            bans = [each for each in bans if each.subject == subject]
        # By name, so that whoever asks for one part after the other sees each ban once.
        behind = [each for each in bans if each.subject > window.after]
        shown = nsmallest(window.limit, behind, key=lambda each: each.subject)
        moment = Moment.current()
        document = {
            "total": len(bans),
            "next": shown[-1].subject if len(behind) > len(shown) else None,
            "bans": [_document(each, moment.wall) for each in shown],
        }
        return answer(200, document)

    async def _ban(self, request: Request) -> Answer:
        parameters(request)
        subject, seconds, reason = _wanted(body_of(request))
        try:
            await auditing(
                request,
                "ban",
                ascii(subject),
                f"{seconds:g} s, {reason!a}",
                self._banned(subject, seconds, reason),
            )
        except ValueError as error:
            raise wrong(str(error)) from None
        document = {
            "subject": subject,
            "until": iso(Moment.current().wall + seconds),
            "seconds": seconds,
            "reason": reason,
        }
        return answer(201, document)

    async def _banned(self, subject: str, seconds: float, reason: str) -> None:
        settling = self._gateway.bans.ban(subject, seconds, reason)
        if settling is not None:
            await settling

    async def _lift(self, request: Request) -> Answer:
        query = parameters(request, "subject")
        if "subject" not in query:
            raise wrong("Say whose ban: ?subject=ip:<address>")
        subject = client_of(query["subject"])
        lifted = await auditing(
            request,
            "ban",
            ascii(subject),
            "lifting",
            self._lifted(subject),
            lambda there: "there was one" if there else "there was none",
        )
        if not lifted:
            raise refusal(404, "unknown_ban", "This subject is not banned")
        return answer(200, {"subject": subject, "lifted": True})

    async def _lifted(self, subject: str) -> bool:
        return await self._gateway.bans.lift(subject)


def _wanted(body: Any) -> tuple[str, float, str]:
    """Subject, seconds and reason of a ban.

    :raises GatewayError: 400.
    """
    if not isinstance(body, dict) or not {"subject", "seconds"} <= set(body) <= {
        "subject",
        "seconds",
        "reason",
    }:
        raise wrong('The body has to be {"subject": ..., "seconds": ..., "reason": ...}')
    seconds, reason = body["seconds"], body.get("reason", _REASON)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise wrong("seconds has to be a number")
    if not 0 < seconds <= LONGEST_BAN:
        raise wrong(f"seconds has to be over 0, and {LONGEST_BAN:.0f} at most")
    if not isinstance(reason, str) or not 0 < len(reason) <= LONGEST_TEXT:
        raise wrong(f"reason has to be a text of 1 to {LONGEST_TEXT} characters")
    return client_of(body["subject"]), float(seconds), reason


def _document(ban: BanView, wall: float) -> dict[str, Any]:
    return {
        "subject": ban.subject,
        "until": iso(ban.until),
        "seconds": round(max(0.0, ban.until - wall), 3),
        "reason": ban.reason,
        "strikes": ban.strikes,
        "local": ban.local,
    }
