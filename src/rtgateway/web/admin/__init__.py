"""The gateway's own pages: health, readiness, pressure, metrics, statistics, administration.

Ordinary ``twisted.web`` Resources, rendered by ``web.pages``; who may see which is decided by
``web.guard`` before. ``docs/admin.md`` shows every page with an example.
"""

from rtgateway.web.admin.tree import make_root
from rtgateway.web.admin.view import GatewayView

__all__ = ["GatewayView", "make_root"]
