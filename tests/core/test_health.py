"""Up and down by rise and fall, and what counts as the expected answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.health import Expectation, Health
from tests.core.profile import PROPERTY

__all__: list[str] = []


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.health = Health(rise=2, fall=3)

    def fail_with(self, *reasons: str) -> list[bool]:
        return [self.health.failed(1.0, reason) for reason in reasons]

    def test_up_before_anybody_looked(self) -> None:
        """What has not been checked yet is used."""
        self.assertTrue(self.health.up)
        self.assertIsNone(self.health.checked_at)
        self.assertEqual(self.health.consecutive, 0)

    def test_down_after_fall(self) -> None:
        """The first failures change nothing, not even the very first; the third does, once."""
        self.assertEqual(self.fail_with("a", "b"), [False, False])
        self.assertTrue(self.health.up)
        self.assertEqual(self.fail_with("c", "d"), [True, False])
        self.assertFalse(self.health.up)
        self.assertEqual((self.health.reason, self.health.consecutive), ("d", 4))

    def test_up_after_rise(self) -> None:
        """A single passed check does not bring it back, and the reason stays until it is up."""
        self.fail_with("a", "b", "status 500")
        self.assertFalse(self.health.passed(2.0))
        self.assertEqual(self.health.reason, "status 500")
        self.assertTrue(self.health.passed(3.0))
        self.assertTrue(self.health.up)
        self.assertEqual(self.health.reason, "")
        self.assertFalse(self.health.passed(4.0))
        self.assertEqual(self.health.checked_at, 4.0)

    def test_in_a_row(self) -> None:
        """One passed check in between begins the count anew, and so does one failed."""
        self.fail_with("a", "b")
        self.health.passed(2.0)
        self.assertEqual(self.health.reason, "")
        self.assertEqual(self.fail_with("c", "d", "e"), [False, False, True])
        self.health.passed(3.0)
        self.fail_with("f")
        self.assertFalse(self.health.passed(4.0))
        self.assertFalse(self.health.up)

    def test_thresholds_count_checks(self) -> None:
        """Zero checks can't say anything."""
        self.assertRaises(ValueError, Health, 0, 1)
        self.assertRaises(ValueError, Health, 1, 0)

    def test_repr(self) -> None:
        self.fail_with("a", "b", "refused")
        self.assertEqual(repr(self.health), "<Health down: refused, 3 failed>")

    @PROPERTY
    @given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
    def test_any_history(self, rise: int, fall: int, results: list[bool]) -> None:
        """The state is that of the latest run long enough to decide; a change is told once."""
        health = Health(rise, fall)
        expected = True
        reason = ""
        run = 0
        for index, passed in enumerate(results):
            run = run + 1 if index and results[index - 1] is passed else 1
            before = expected
            if run >= (rise if passed else fall):
                expected = passed
            if not passed:
                reason = f"why {index}"
            elif expected:
                reason = ""
            told = health.passed(index) if passed else health.failed(index, reason)
            self.assertEqual((health.up, told), (expected, before is not expected))
            self.assertEqual((health.consecutive, health.reason), (run, reason))


class ExpectationTests(SynchronousTestCase):
    def test_a_class_of_statuses(self) -> None:
        """ "2xx" is 200 to 299, and nothing else."""
        expected = Expectation(("2xx",))
        self.assertEqual([expected.verdict(status, b"") for status in (200, 204, 299)], [""] * 3)
        self.assertEqual(expected.verdict(199, b""), "status 199")
        self.assertEqual(expected.verdict(300, b""), "status 300")

    def test_single_statuses(self) -> None:
        """Statuses and classes mix; only what is listed passes."""
        expected = Expectation((204, "401", "3XX"))
        for status in (204, 401, 302):
            self.assertEqual(expected.verdict(status, b""), "")
        self.assertEqual(expected.verdict(200, b""), "status 200")

    def test_text_in_the_body(self) -> None:
        """The body has to contain the text, anywhere."""
        expected = Expectation(("2xx",), '"état":"ok"')
        self.assertEqual(expected.verdict(200, '{"état":"ok"}'.encode()), "")
        self.assertEqual(
            expected.verdict(200, b'{"etat":"ok"}'),
            'status 200, but its body has no ""état":"ok""',
        )
        self.assertEqual(expected.verdict(500, '"état":"ok"'.encode()), "status 500")

    def test_any_body(self) -> None:
        """Without a text, and with an empty one, every body will do."""
        for text in (None, ""):
            self.assertEqual(Expectation((200,), text).verdict(200, b"\xff\x00"), "")

    def test_a_long_text(self) -> None:
        """A reason stays short enough for a log line."""
        self.assertLess(len(Expectation((200,), "x" * 5000).verdict(200, b"")), 100)

    def test_no_status(self) -> None:
        """What is neither a status nor a class is refused when the check is made."""
        for word in ("ok", "xxx", "2x"):
            self.assertRaises(ValueError, Expectation, (word,))
