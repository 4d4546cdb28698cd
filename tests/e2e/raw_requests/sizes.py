"""How large a head may be: RFC 9110, 15.5.15; RFC 6585, 5. The limits are those of the stage."""

from __future__ import annotations

from tests.e2e.raw_requests.row import Row, ask, passed, refused, sent_on

__all__ = ["COUNT", "LINE", "ROWS", "SIZE"]

LINE, SIZE, COUNT = 1024, 4096, 40

_GET = b"GET /x HTTP/1.1"


def _line(length: int) -> bytes:
    return b"GET /x?%b HTTP/1.1" % (b"a" * (length - len("GET /x? HTTP/1.1")))


def _fields(size: int) -> tuple[bytes, ...]:
    """Fields that make a request of just this many bytes."""
    rest = size - len(ask(_GET))
    fields = []
    while rest > 300:
        fields.append(b"X-Pad: " + b"p" * 91)
        rest -= 100
    return (*fields, b"X-Pad: " + b"p" * (rest - 9))


_MANY = tuple(b"X-%d: 1" % number for number in range(COUNT - 1))

ROWS: tuple[Row, ...] = (
    passed(
        "a request line as long as may be",
        "RFC 9112, 3",
        ask(_line(LINE)),
        sent_on(_line(LINE)),
    ),
    refused("a request line too long", "RFC 9110, 15.5.15", ask(_line(LINE + 1)), status=414),
    refused(
        "a request line without end",
        "RFC 9110, 15.5.15",
        b"GET /" + b"a" * (2 * LINE),
        status=414,
    ),
    refused(
        "a method without end",
        "RFC 9110, 15.5.15",
        b"A" * (2 * LINE),
        status=414,
    ),
    passed(
        "a head as large as may be",
        "RFC 6585, 5",
        ask(_GET, *_fields(SIZE)),
        sent_on(_GET, *_fields(SIZE)),
    ),
    refused("a head too large", "RFC 6585, 5", ask(_GET, *_fields(SIZE + 1)), status=431),
    refused(
        "a field without end",
        "RFC 6585, 5",
        ask(_GET, b"X-Field: " + b"a" * SIZE)[:-4],
        status=431,
    ),
    refused(
        "a field name without end",
        "RFC 6585, 5",
        ask(_GET, b"a" * SIZE)[:-4],
        status=431,
    ),
    passed("as many fields as may be", "RFC 6585, 5", ask(_GET, *_MANY), sent_on(_GET, *_MANY)),
    refused("a field too many", "RFC 6585, 5", ask(_GET, *_MANY, b"X-More: 1"), status=431),
)
