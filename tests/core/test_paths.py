"""Dot segments."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.paths import has_dot_segments
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
