"""Which instances are ejected because they do worse than the others."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.core.outliers import Ejection, OutlierSettings, Sample, low_success, may_eject
from tests.core.profile import PROPERTY

DEFAULTS = OutlierSettings()
GOOD = Sample(100, 0)
HALF = Sample(100, 50)


class SettingsTests(SynchronousTestCase):
    def test_as_configured(self) -> None:
        """The defaults are those of the configuration, and what it says arrives."""
        self.assertEqual(OutlierSettings.from_config(config.Outliers()), DEFAULTS)
        section = config.Outliers(margin=0.1, minimum_calls=7, max_ejection_share=0.2)
        expected = replace(DEFAULTS, margin=0.1, minimum_calls=7, max_ejection_share=0.2)
        self.assertEqual(OutlierSettings.from_config(section), expected)


class LowSuccessTests(SynchronousTestCase):
    def assertLow(
        self, indexes: list[int], *samples: Sample, settings: OutlierSettings = DEFAULTS
    ) -> None:
        self.assertEqual(low_success(samples, settings), indexes)

    def test_one_of_three_fails_half_of_its_calls(self) -> None:
        for index in range(3):
            samples = [GOOD, GOOD, GOOD]
            samples[index] = HALF
            self.assertLow([index], *samples)

    def test_all_fail_alike(self) -> None:
        """The cause is elsewhere; no instance is better."""
        self.assertLow([], HALF, HALF, HALF)
        self.assertLow([], Sample(100, 48), Sample(100, 55), Sample(100, 50))
        self.assertLow([], *[Sample(100, 100)] * 3)
        self.assertLow([], GOOD, GOOD, GOOD)

    def test_of_two(self) -> None:
        self.assertLow([1], GOOD, HALF)
        self.assertLow([0], HALF, GOOD)
        self.assertLow([], HALF, HALF)

    def test_one_alone(self) -> None:
        """There is nothing to compare it with."""
        self.assertLow([], Sample(100, 100))
        self.assertLow([])

    def test_too_few_calls(self) -> None:
        """An instance with few calls is neither judged nor compared with."""
        self.assertLow([], GOOD, GOOD, Sample(49, 49))
        self.assertLow([2], GOOD, GOOD, Sample(50, 50))
        self.assertLow([], Sample(49, 0), Sample(49, 0), HALF)
        self.assertLow([2], Sample(49, 49), GOOD, HALF)
        none = replace(DEFAULTS, minimum_calls=0)
        self.assertLow([2], Sample(0, 0), GOOD, Sample(1, 1), settings=none)

    def test_the_margin(self) -> None:
        """Equally good instances have no deviation; a small difference is still none."""
        self.assertLow([], GOOD, GOOD, Sample(100, 20))
        self.assertLow([2], GOOD, GOOD, Sample(100, 21))
        self.assertLow([2], GOOD, GOOD, Sample(100, 1), settings=replace(DEFAULTS, margin=0.0))

    def test_the_deviation(self) -> None:
        """Where the others differ much among themselves, more is needed to stand out."""
        apart = [Sample(100, 0), Sample(100, 40), Sample(100, 10), Sample(100, 30)]
        self.assertLow([], *apart, Sample(100, 49))
        self.assertLow([4], *apart, Sample(100, 51))

    def test_the_worst_first(self) -> None:
        """Not all may be ejected; it begins with the one that needs it most."""
        self.assertLow([3, 0], Sample(100, 60), *[GOOD] * 2, Sample(100, 90), *[GOOD] * 16)

    def test_off(self) -> None:
        self.assertLow([], GOOD, HALF, settings=replace(DEFAULTS, enabled=False))
        self.assertLow([], GOOD, HALF, settings=replace(DEFAULTS, success_rate=False))

    @PROPERTY
    @given(st.integers(0, 100), st.integers(1, 30), st.integers(1, 1000))
    def test_equals_are_never_ejected(self, failures: int, instances: int, times: int) -> None:
        """However small the margin: differences of rounding are none."""
        samples = [Sample(100 * times, failures * times)] * instances
        self.assertLow([], *samples, settings=replace(DEFAULTS, margin=0.0, deviations=0.0))

    @PROPERTY
    @given(
        st.lists(
            st.integers(1, 500).flatmap(
                lambda calls: st.builds(Sample, st.just(calls), st.integers(0, calls))
            ),
            max_size=12,
        )
    )
    def test_the_best_is_never_ejected(self, samples: list[Sample]) -> None:
        low = low_success(samples, DEFAULTS)
        rates = [1 - sample.failures / sample.calls for sample in samples]
        judged = [rate for rate, each in zip(rates, samples, strict=True) if each.calls >= 50]
        self.assertEqual(low, sorted(low, key=rates.__getitem__))
        for index in low:
            self.assertLessEqual(rates[index], max(judged) - DEFAULTS.margin)


class MayEjectTests(SynchronousTestCase):
    def test_the_only_one_never(self) -> None:
        self.assertFalse(may_eject(1, 0, 1.0))
        self.assertFalse(may_eject(0, 0, 1.0))

    def test_at_least_one_of_several(self) -> None:
        for total in (2, 3, 10):
            self.assertTrue(may_eject(total, 0, 0.0))
            self.assertFalse(may_eject(total, 1, 0.0))

    def test_a_share_of_many(self) -> None:
        self.assertTrue(may_eject(4, 1, 0.5))
        self.assertFalse(may_eject(4, 2, 0.5))
        self.assertFalse(may_eject(3, 1, 0.5))
        self.assertTrue(may_eject(100, 28, 0.29))
        self.assertFalse(may_eject(100, 29, 0.29))


class EjectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ejection = Ejection(DEFAULTS)

    def test_for_a_time(self) -> None:
        self.assertFalse(self.ejection.active(1000.0))
        self.assertTrue(self.ejection.eject(1000.0, "5 errors in a row"))
        self.assertTrue(self.ejection.active(1029.9))
        self.assertFalse(self.ejection.active(1030.0))
        expected = "<Ejection until 1030.000 count=1 '5 errors in a row'>"
        self.assertEqual(repr(self.ejection), expected)

    def test_longer_each_time(self) -> None:
        """An instance that fails as soon as it is back stays away longer, up to a bound."""
        now = 1000.0
        lengths = []
        for _ in range(12):
            self.assertTrue(self.ejection.eject(now, "again"))
            lengths.append(self.ejection.until - now)
            now = self.ejection.until
        self.assertEqual(lengths, [*range(30, 300, 30), 300, 300, 300])

    def test_a_quiet_time_is_remembered_too(self) -> None:
        """Each interval without an ejection takes one off."""
        for _ in range(3):
            self.ejection.eject(self.ejection.until + 1.0, "")
        self.assertEqual(self.ejection.count, 3)
        self.ejection.eject(self.ejection.until + 20.0, "two intervals later")
        self.assertEqual(self.ejection.count, 2)
        self.ejection.eject(self.ejection.until + 86400.0, "a day later")
        self.assertEqual(self.ejection.count, 1)

    def test_ejected_already(self) -> None:
        """Calls that had begun before fail as well; that makes it no longer."""
        self.ejection.eject(1000.0, "first")
        self.assertFalse(self.ejection.eject(1001.0, "second"))
        self.assertEqual(
            (self.ejection.until, self.ejection.count, self.ejection.reason), (1030.0, 1, "first")
        )

    def test_ended_early(self) -> None:
        self.ejection.eject(1000.0, "")
        self.ejection.end(1010.0)
        self.assertFalse(self.ejection.active(1010.0))
        self.ejection.end(1020.0)
        self.assertEqual(self.ejection.until, 1010.0)
        self.assertTrue(self.ejection.eject(1011.0, ""))
        self.assertEqual(self.ejection.until, 1071.0)
