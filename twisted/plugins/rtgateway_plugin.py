"""Makes ``twistd rtgateway`` known. Imports nothing else, for twistd reads every plugin."""

from twisted.application.service import ServiceMaker

rtgateway = ServiceMaker(
    "rtgateway",
    "rtgateway.tap",
    "A real-time API gateway: HTTP and SSE reverse proxying",
    "rtgateway",
)
