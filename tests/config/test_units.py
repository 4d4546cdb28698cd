"""Durations and sizes, as people write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config.units import format_duration, format_size, parse_duration, parse_size


class Durations(SynchronousTestCase):
    """Seconds in and out."""

    def test_units(self) -> None:
        """Milliseconds to days, with fractions; a bare number is seconds."""
        for text, seconds in (
            ("250ms", 0.25),
            ("30s", 30.0),
            ("5m", 300.0),
            ("1.5h", 5400.0),
            ("1d", 86400.0),
            (" 2 s ", 2.0),
            ("7", 7.0),
            (7, 7.0),
            (0.5, 0.5),
        ):
            self.assertEqual(parse_duration(text), seconds, text)

    def test_refused(self) -> None:
        """Anything else is refused, negative and infinite numbers included."""
        huge = 10**400
        for value in (
            "",
            "s",
            "-1s",
            "1week",
            "1 2",
            "inf",
            -1,
            float("nan"),
            True,
            None,
            [1],
            huge,
        ):
            with self.assertRaises(ValueError, msg=repr(value)):
                parse_duration(value)

    def test_written_short(self) -> None:
        """Durations are written in the unit that people use for them."""
        for seconds, text in (
            (0, "0s"),
            (0.25, "250ms"),
            (1.5, "1500ms"),
            (60, "60s"),
            (75, "75s"),
            (300, "5m"),
            (3600, "1h"),
            (86400, "24h"),
            (172800, "2d"),
        ):
            self.assertEqual(format_duration(seconds), text)

    @given(st.integers(0, 10**10))
    def test_round_trip(self, milliseconds: int) -> None:
        """What is written reads as the same duration."""
        seconds = milliseconds / 1000
        self.assertEqual(parse_duration(format_duration(seconds)), seconds)


class Sizes(SynchronousTestCase):
    """Bytes in and out."""

    def test_units(self) -> None:
        """Binary and decimal units, with fractions that are whole bytes."""
        for text, size in (
            ("512", 512),
            ("64KiB", 65536),
            ("64kB", 64000),
            ("10MiB", 10 << 20),
            ("1GiB", 1 << 30),
            ("1.5 KiB", 1536),
            ("5b", 5),
            (0, 0),
        ):
            self.assertEqual(parse_size(text), size, text)

    def test_refused(self) -> None:
        """Unknown units, parts of a byte, negative numbers and booleans are refused."""
        for value in ("", "10 potatoes", "10K", "0.3", "-1", -1, 1.0, True, None):
            with self.assertRaises(ValueError, msg=repr(value)):
                parse_size(value)

    @given(st.integers(0, 1 << 40))
    def test_round_trip(self, size: int) -> None:
        """What is written reads as the same size."""
        self.assertEqual(parse_size(format_size(size)), size)
