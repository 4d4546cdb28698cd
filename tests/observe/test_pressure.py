"""When the gateway calls itself overloaded."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Pressure as Settings
from rtgateway.observe.pressure import INTERVAL, Pressure, resident_memory


class PressureTests(SynchronousTestCase):
    """Samples, one after the other."""

    def test_an_event_loop_in_time_is_no_pressure(self) -> None:
        """Samples that come when they are due say nothing."""
        pressure = Pressure(Settings(max_event_loop_delay=1.0))
        for number in range(5):
            pressure.sample(100.0 + number * INTERVAL)
        self.assertIsNone(pressure.overloaded())
        self.assertEqual(pressure.delay, 0.0)
        self.assertEqual(repr(pressure), "<Pressure none delay=0.000>")

    def test_a_late_event_loop_is_told_until_it_is_in_time_again(self) -> None:
        """The next sample that comes in time ends the overload."""
        pressure = Pressure(Settings(max_event_loop_delay=1.0))
        pressure.sample(100.0)
        pressure.sample(100.0 + INTERVAL + 1.25)
        self.assertEqual(pressure.overloaded(), "event loop delay 1.25 s, at most 1 s allowed")
        self.assertEqual(pressure.delay, 1.25)
        pressure.sample(101.75 + INTERVAL)
        self.assertIsNone(pressure.overloaded())

    def test_the_limit_of_the_delay_can_be_off(self) -> None:
        """With 0 no delay is too long; it is measured all the same."""
        pressure = Pressure(Settings(max_event_loop_delay=0))
        pressure.sample(100.0)
        pressure.sample(200.0)
        self.assertIsNone(pressure.overloaded())
        self.assertEqual(pressure.delay, 100.0 - INTERVAL)

    def test_memory_over_its_limit(self) -> None:
        """It is told with both numbers, and ends when memory is given back."""
        held = [1001]
        pressure = Pressure(Settings(max_rss=1000), memory=lambda: held[0])
        pressure.sample(100.0)
        self.assertEqual(pressure.overloaded(), "1001 bytes of memory in use, at most 1000 allowed")
        held[0] = 1000
        pressure.sample(100.0 + INTERVAL)
        self.assertIsNone(pressure.overloaded())

    def test_samples_are_taken_from_start_to_stop(self) -> None:
        """A reactor that was busy for two seconds finds itself overloaded; stopping forgets it."""
        clock = Clock()
        late = [0.0]
        pressure = Pressure(Settings(), clock=lambda: clock.seconds() + late[0])
        pressure.start(clock)
        clock.advance(INTERVAL)
        self.assertIsNone(pressure.overloaded())
        late[0] = 2.0
        clock.advance(INTERVAL)
        self.assertIsNotNone(pressure.overloaded())
        pressure.stop()
        self.assertIsNone(pressure.overloaded())
        self.assertEqual(clock.getDelayedCalls(), [])
        pressure.stop()

    def test_retry_after_is_whole_seconds(self) -> None:
        """Retry-After has no fractions, and 0 would be no advice."""
        self.assertEqual(Pressure(Settings(retry_after=0.2)).retry_after, 1)
        self.assertEqual(Pressure(Settings()).retry_after, 10)

    def test_resident_memory_is_that_of_this_process(self) -> None:
        """A Python process holds between 5 MiB and 100 GiB."""
        self.assertTrue(5 << 20 < resident_memory() < 100 << 30)
