"""Dot segments, and paths that lead to another host."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.paths import escapes_host, has_dot_segments
from tests.core.profile import PROPERTY


class DotSegmentTests(SynchronousTestCase):
    def test_ordinary_paths(self) -> None:
        """Dots inside names, and names that only begin or end with dots, are ordinary."""
        for path in (
            b"/",
            b"*",
            b"/a/b",
            b"/a.b/c.json",
            b"/a%20b%2",
            b"/a%2e%2eb/c",
            b"/.well-known/x",
            b"/...",
            b"/a/...",
            b"/..a/b..",
            b"/a%20b",
            b"/a%2fb",
            b"/a\\b.c",
            b"/a;x=1/b.c",
            b"/%2e%2e%2e",
            b"/%252e%252e/",
        ):
            self.assertFalse(has_dot_segments(path), path)

    def test_plain(self) -> None:
        for path in (b"/.", b"/..", b"/./a", b"/a/../b", b"/a/..", b"/a/.", b".", b"..", b"../a"):
            self.assertTrue(has_dot_segments(path), path)

    def test_encoded_dots(self) -> None:
        """%2e is the same character as a dot (RFC 3986, 2.3), in any case and mixture."""
        for path in (b"/%2e%2e/a", b"/%2E./a", b"/.%2e", b"/a/%2e", b"/a/%2E%2e"):
            self.assertTrue(has_dot_segments(path), path)

    def test_other_separators(self) -> None:
        """Services that decode or translate separators first are not fooled either."""
        for path in (
            b"/a%2f..%2fb",
            b"/a/..%2Fb",
            b"/a\\..\\b",
            b"/a/..\\b",
            b"/a%5c..",
            b"/a%5C%2e%2E%5cb",
            b"/a\\.",
            b"/..;/a",
            b"/a/..;x=1",
            b"\\..",
        ):
            self.assertTrue(has_dot_segments(path), path)

    @PROPERTY
    @given(
        st.lists(
            st.sampled_from(
                [b"/", b".", b"%2e", b"%2E", b"\\", b"%2f", b"%5C", b"a", b"%20", b";", b"%"]
            ),
            max_size=12,
        )
    )
    def test_equals_decoding_and_splitting(self, parts: list[bytes]) -> None:
        """The quick test says what a slow service would find."""
        path = b"/" + b"".join(parts)
        decoded = unquote_to_bytes(re.sub(rb";[^/\\]*?(?=[/\\]|%2f|%5c|\Z)", b"", path, flags=re.I))
        segments = re.split(rb"[/\\]", decoded)
        self.assertEqual(has_dot_segments(path), b"." in segments or b".." in segments)


ESCAPES = (
    b"//evil",
    b"///evil",
    b"/\\evil",
    b"\\\\evil",
    b"\\/evil",
    b"//",
    b"//user@evil:80/x",
    b"wss://evil",
    b"WSS:/evil",
    b"http:evil",
    b"https:\\\\evil",
    b"javascript:x",
    b"a+b.c-1:x",
    b"/\t/evil",
    b"/\r\n/evil",
    b"\n//evil",
    b" \0 //evil",
    b" wss://evil",
    b"w\tss:evil",
    b"/.//evil",
    b"/..//evil",
    b"/./.././/evil",
)


def encoded(text: bytes, times: int) -> bytes:
    """``text`` with every byte of it percent-encoded, so many times."""
    for _ in range(times):
        text = b"".join(b"%%%02x" % byte for byte in text)
    return text


class OtherHostTests(SynchronousTestCase):
    def test_ordinary_paths(self) -> None:
        """Only the front of a path can lead elsewhere, and only two slashes or a scheme there."""
        for path in (
            b"",
            b"/",
            b"*",
            b"/a//b",
            b"/a%2Fb",
            b"/a%2F%2Fb",
            b"/a\\\\b",
            b"/%61//b",
            b"/login/https://a.example/",
            b"/https://a.example/",
            b"/urn:a:b",
            b"/a:b",
            b"/%C3%BC/x",
            b"/%20//b",
            b"/.well-known/a%20b//c",
            b"/.a//b",
            b"/...//b",
            b"/-//b",
            b"/%",
            b"/%2",
            b"/%zz//a",
            b"/100%25//x",
            b"/a/" + encoded(b"/", 9),
            b"/" + b"a" * 100_000,
            b"a/b",
            b"1:x",
        ):
            self.assertFalse(escapes_host(path), path[:40])

    def test_plain(self) -> None:
        for path in ESCAPES:
            self.assertTrue(escapes_host(path), path)

    def test_encoded(self) -> None:
        """Whoever decodes what the gateway did not is not fooled: once, or several times."""
        for path in ESCAPES:
            for times in (1, 2, 3):
                self.assertTrue(escapes_host(encoded(path, times)), path)
                self.assertTrue(escapes_host(path[:1] + encoded(path[1:], times)), path)

    def test_odd_spellings(self) -> None:
        """Encodings of parts of encodings, and of what is taken out on the way."""
        for path in (
            b"/%2Fe",
            b"/%2fe",
            b"%2F%2Fe",
            b"/%252Fe",
            b"/%25252Fe",
            b"/%5Ce",
            b"/%255ce",
            b"%5C%5ce",
            b"/%2%35%32Fe",
            b"/%%32Fe",
            b"/%%092Fe",
            b"/%09%0a%0D/e",
            b"%00%20//e",
            b"wss%3A//e",
            b"ws%73:%2f%2fe",
            b"/%2e/%2Fe",
            b"/.%252f/e",
        ):
            self.assertTrue(escapes_host(path), path)

    def test_bounded(self) -> None:
        """What is encoded over and over is refused, and does not take long."""
        for count in (20, 100_000):
            self.assertTrue(escapes_host(b"/%" + b"25" * count + b"2Fe"))
        self.assertTrue(escapes_host(b"/" + b"%09" * 100_000 + b"/e"))

    @PROPERTY
    @given(
        st.sampled_from(ESCAPES),
        st.lists(st.integers(0, 2), min_size=1, max_size=8),
        st.binary(max_size=5),
    )
    def test_any_mixture(self, path: bytes, times: list[int], rest: bytes) -> None:
        """Each byte may be encoded, or not, or twice."""
        signs = enumerate(path)
        mixed = b"".join(encoded(bytes([sign]), times[at % len(times)]) for at, sign in signs)
        self.assertTrue(escapes_host(mixed + rest), mixed)

    @PROPERTY
    @given(
        st.lists(
            st.sampled_from(
                ["/", "\\", "%2f", "%5C", "%25", "2f", "%", ":", "ws", "a", "\t", "%09", " ", "%20"]
            ),
            max_size=10,
        ),
        st.integers(0, 4),
    )
    def test_equals_resolving(self, parts: list[str], times: int) -> None:
        """What passes leads to the same host, if somebody decodes it and resolves it then."""
        path = "/" + "".join(parts)
        if escapes_host(path.encode()):
            return
        for _ in range(times):
            path = unquote_to_bytes(path).decode("latin-1")
        path = path.replace("\\", "/")
        self.assertEqual(urlsplit(path).netloc, "", path)
        self.assertEqual(urlsplit(urljoin("ws://instance/x", path)).netloc, "instance", path)
