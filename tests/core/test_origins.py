"""Which origins are allowed, and what only looks like one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import WebSocket
from rtgateway.core.origins import Origins
from tests.core.profile import PROPERTY

ONE = Origins(["https://app.example.com"])
BELOW = Origins(["https://*.example.com"])


class OriginTests(SynchronousTestCase):
    def allowed(self, origins: Origins, *given: bytes) -> None:
        for origin in given:
            self.assertTrue(origins.allows(origin), origin)

    def refused(self, origins: Origins, *given: bytes) -> None:
        for origin in given:
            self.assertFalse(origins.allows(origin), origin)

    def test_exact(self) -> None:
        """Scheme, host and port are the same; case and the scheme's own port say nothing."""
        self.allowed(
            ONE,
            b"https://app.example.com",
            b"HTTPS://App.Example.COM",
            b"https://app.example.com:443",
        )
        self.refused(
            ONE,
            b"http://app.example.com",
            b"https://app.example.com:8443",
            b"https://app.example.com:80",
            b"https://example.com",
            b"https://a.app.example.com",
            b"https://app.example.com.",
            b"https://app.example.comm",
            b"https://xapp.example.com",
            b"app.example.com",
        )

    def test_ports(self) -> None:
        """A port is compared as a number."""
        origins = Origins(["http://localhost:3000", "HTTP://b:80"])
        self.allowed(origins, b"http://localhost:3000", b"http://b", b"http://b:080")
        self.refused(origins, b"http://localhost", b"http://localhost:300", b"http://b:8080")

    def test_below(self) -> None:
        """A star stands for one label or more, not for none."""
        self.allowed(BELOW, b"https://a.example.com", b"https://a.b-c.EXAMPLE.com:443")
        self.refused(
            BELOW,
            b"https://example.com",
            b"https://.example.com",
            b"https://a..example.com",
            b"https://aexample.com",
            b"https://a.example.com.evil",
            b"https://a.example.com:8443",
            b"http://a.example.com",
            b"https://*.example.com",
        )

    def test_nothing_before_the_suffix(self) -> None:
        """What ends like an allowed origin is still that of somebody else."""
        for sign in (*b"/\\@#?:%&;,!' \t\r\n\0[]", *"é".encode()):
            self.refused(BELOW, b"https://evil%c.example.com" % sign)
            self.refused(BELOW, b"https://evil.org%c.example.com" % sign)
        self.refused(BELOW, b"https://evil.org:443/.example.com", b"https://u:p@a.example.com")

    def test_null(self) -> None:
        """``null`` is an origin where it is listed; a star is not for it."""
        self.allowed(Origins(["null"]), b"null")
        self.refused(Origins(["null"]), b"NULL", b"null ", b"", b"https://null", b"null://null")
        for origins in (ONE, BELOW, Origins([])):
            self.refused(origins, b"null", b"")

    def test_addresses(self) -> None:
        """Addresses are origins, too; IPv6 in any spelling, and never mixed up with a name."""
        origins = Origins(["http://[::1]:8080", "http://127.0.0.1", "https://aaaaaaaaaaaaaaaa"])
        self.allowed(origins, b"http://[0:0::1]:8080", b"http://127.0.0.1:80")
        self.refused(
            origins,
            b"http://[::1]",
            b"http://[::1",
            b"http://[::g]:8080",
            b"http://[1::2::3]:8080",
            b"https://[6161:6161:6161:6161:6161:6161:6161:6161]",
        )

    def test_applications(self) -> None:
        """Pages inside an application have schemes of their own, without ports."""
        origins = Origins(["capacitor://localhost", "chrome-extension://abcdefghijklmnop"])
        self.allowed(origins, b"capacitor://localhost", b"chrome-extension://abcdefghijklmnop")
        self.refused(origins, b"http://localhost", b"capacitor://localhost:80")

    def test_several(self) -> None:
        """A list of origins (RFC 6454, 7.1) is none that a browser sends."""
        self.refused(ONE, b"https://app.example.com https://app.example.com")
        self.refused(ONE, b"https://app.example.com, https://app.example.com")

    def test_long(self) -> None:
        """However long the value is, it is looked at for a short time."""
        self.refused(BELOW, b"https://" + b"a." * 1_000_000 + b"example.com")
        self.allowed(BELOW, b"https://" + b"a." * 120 + b"example.com")

    def test_many(self) -> None:
        """Many patterns take no longer than one; a name may be in several ways."""
        origins = Origins([f"https://*.site{n}.example" for n in range(5000)])
        self.allowed(origins, b"https://a.b.site4999.example")
        self.refused(origins, b"https://a.b.site5000.example")
        self.assertEqual(repr(origins), "<Origins 5000>")
        self.assertEqual(repr(Origins(["null", "https://a", "https://A:443"])), "<Origins 2>")

    def test_patterns(self) -> None:
        """A pattern that could never match is refused."""
        for pattern in ("", "*", "https://", "https://*", "https://a/", "a.example", "https://é"):
            with self.assertRaises(ValueError, msg=pattern):
                Origins([pattern])

    @PROPERTY
    @given(
        st.sampled_from(["http", "https", "capacitor"]),
        st.lists(st.text("ab-", min_size=1, max_size=3), min_size=1, max_size=4),
        st.one_of(st.none(), st.integers(1, 65535)),
        st.booleans(),
    )
    def test_as_configured(
        self, scheme: str, labels: list[str], port: int | None, below: bool
    ) -> None:
        """What the configuration takes for an origin is one, and allows what it says."""
        labels = [f"x{label}x" for label in labels]
        rest = ".".join(labels) + (f":{port}" if port else "")
        pattern = f"{scheme}://{'*.' if below else ''}{rest}"
        settings = WebSocket(origins=(pattern.upper(),))
        origins = Origins(settings.origins)
        exact, deeper = f"{scheme}://{rest}".encode(), f"{scheme}://a.b.{rest}".encode()
        self.assertEqual(origins.allows(exact), not below)
        self.assertEqual(origins.allows(deeper), below)

    @PROPERTY
    @given(st.binary(max_size=40))
    def test_anything(self, origin: bytes) -> None:
        """Nothing that a client may send breaks it."""
        for origins in (ONE, BELOW):
            self.assertFalse(origins.allows(origin))
            self.assertFalse(origins.allows(b"https://" + origin))
