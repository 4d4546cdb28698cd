"""What can go wrong between the gateway and its store."""

from __future__ import annotations

from typing import Literal

__all__ = ["Reason", "StoreError"]

Reason = Literal["down", "timeout", "lost", "busy", "refused"]


class StoreError(Exception):
    """The store did not answer, or not with what was asked for.

    :ivar reason: ``down``: it was known not to answer, and was not asked; ``timeout``: it did not
        in time; ``lost``: the connection ended before it did; ``busy``: too much is being asked
        already; ``refused``: it answered with an error.
    :ivar detail: in words for a log, without any secret.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason: Reason = reason
        self.detail = detail

    def __repr__(self) -> str:
        return f"<StoreError {self.reason}: {self.detail}>"
