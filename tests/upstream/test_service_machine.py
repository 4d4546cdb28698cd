"""A service under every order of events that Hypothesis finds.

Requests come, are answered, fail and are given up at any wait; instances come, go, break and
recover; operators interfere; time passes. Whatever happens, each attempt gives back what it took,
goes where it may, and no request is tried more often than is allowed.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.retry import RetryPolicy
from rtgateway.errors import ClientGone, GatewayError, UpstreamFailed, UpstreamTimeout
from rtgateway.upstream.attempt import Attempt
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.retrial import repeatable
from tests.core.profile import PROPERTY
from tests.upstream.stage import Client, FakeConnection, Payload, Stage, found, pool_of

__all__: list[str] = []

NAMES = ["a", "b", "c", "d"]
STRATEGIES = ["least_load", "round_robin", "least_connections", "p2c", "consistent_hash", "sticky"]
LIMITS: list[dict[str, Any]] = [
    {},
    {"limit": 1, "queue": 2},
    {"per_instance": 1, "queue": 2},
    {"limit": 3, "per_instance": 2, "queue": 1},
    {"adaptive": True, "min_limit": 1, "max_limit": 3, "queue": 2},
]
BREAKER = st.fixed_dictionaries(
    {
        "failure_threshold": st.integers(1, 2),
        "success_threshold": st.integers(1, 2),
        "half_open_calls": st.integers(1, 2),
        "timeout": st.just(2.0),
        "max_timeout": st.just(4.0),
        "jitter": st.just(0.0),
        "enabled": st.sampled_from([True, True, False]),
    }
)
BUDGETS: list[Any] = ["off", {"ratio": 0.2, "per_second": 0.3}, {"ratio": 0.5, "per_second": 1}]
SERVICES = st.fixed_dictionaries(
    {
        "balance": st.fixed_dictionaries(
            {
                "strategy": st.sampled_from(STRATEGIES),
                "panic_threshold": st.sampled_from([0.0, 0.0, 0.6]),
                "slow_start": st.sampled_from([0.0, 2.0]),
            }
        ),
        "circuit_breaker": BREAKER,
        "service_breaker": st.sampled_from(
            [None, {"failure_threshold": 3, "timeout": 1.0, "jitter": 0.0}]
        ),
        "retry": st.fixed_dictionaries(
            {
                "attempts": st.integers(1, 3),
                "base_delay": st.sampled_from([0.0, 0.2]),
                "budget": st.sampled_from(BUDGETS),
                "hedge": st.sampled_from(
                    [{}, {"enabled": True, "min_delay": 0.05, "max_delay": 0.2}]
                ),
            }
        ),
        "outliers": st.sampled_from(
            [
                {},
                {"consecutive_errors": 2, "base_ejection": 3.0, "interval": 2.0},
                {"minimum_calls": 2, "interval": 2.0, "base_ejection": 2.0},
            ]
        ),
        "concurrency": st.sampled_from(LIMITS),
    }
)
REQUESTS: dict[str, tuple[bytes, bool, bool | None]] = {
    "GET": (b"GET", False, None),
    "POST": (b"POST", False, None),
    "POST with a key": (b"POST", True, True),
    "PUT": (b"PUT", False, True),
    "large PUT": (b"PUT", False, False),
}
"""Method, whether it has a key, whether its body is kept (None: it has none)."""
CONNECTS = ["refused", "no time to connect", "no room"]
ANSWERS = ["200", "404", "429", "500", "503", "begin 200", "begin 503"]
FAILURES = ["reset", "cut off", "too late", "invalid"]
ENDS = ["ends", "breaks", "is silent"]
TRAFFIC = st.sampled_from(
    [
        *["GET", "GET", "GET", "GET", "GET", *REQUESTS],
        *["connect", "connect", "connect", "connect", *CONNECTS],
        *["200", "200", "200", "503", "503", *ANSWERS, *FAILURES],
        *["ends", *ENDS, "events", "leaves"],
        *["0.05", "0.2", "0.2", "1", "1"],
    ]
)
WHICH = st.integers(0, 3)


class Services(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patches = ExitStack()
        self.tries = 0
        self.problems: list[AssertionError] = []

    @initialize(
        service=SERVICES,
        instances=st.integers(1, 3),
        backup=st.booleans(),
        limit=st.sampled_from([0.0, 0.0, 1.5]),
        trouble=st.sampled_from(["none", "none", "operators", "changes", "both"]),
    )
    def begin(
        self, service: dict[str, Any], instances: int, backup: bool, limit: float, trouble: str
    ) -> None:
        # Besides failures: people and changes all the time would let nothing else happen.
        self.operators = trouble in ("operators", "both")
        self.changes = trouble in ("changes", "both")
        self.stage = Stage(*NAMES[:instances], **service)
        self.patches.enter_context(self.stage.on())
        self.service = self.stage.service
        self.stage.plan.request = limit
        self.policy: RetryPolicy = self.stage.plan.retry
        self.clients = self.stage.clients
        self.began = self.stage.now
        if backup:
            self.service.instances[-1].backup = True
        self.real_begin = self.service.begin_now
        setattr(self.service, "begin_now", self.picking)  # noqa: B010
        # The budget begins to count when it is asked first.
        self.service.tick(self.stage.now)

    # -- what the rules speak of ----------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.stage.now

    @property
    def waiting(self) -> list[Client]:
        return [each for each in self.clients if not each.over]

    @property
    def making(self) -> list[tuple[Instance, Any]]:
        return [(each, it) for each in self.stage.everybody for it in pool_of(each).making]

    @property
    def lent(self) -> list[FakeConnection]:
        return [it for each in self.stage.everybody for it in pool_of(each).lent]

    @property
    def asked(self) -> list[FakeConnection]:
        return [each for each in self.lent if not each.streams]

    @property
    def streaming(self) -> list[FakeConnection]:
        return [each for each in self.lent if each.streams]

    def picking(
        self, client: Any, policy: RetryPolicy, tried: tuple[Instance, ...] = ()
    ) -> Attempt:
        """What is raised here may be taken for the gateway's own: it is kept for later."""
        try:
            return self.picks(client, policy, tried)
        except AssertionError as error:
            self.problems.append(error)
            raise

    def picks(self, client: Any, policy: RetryPolicy, tried: tuple[Instance, ...] = ()) -> Attempt:
        """An instance is picked: the right one?"""
        now, service = self.now, self.service
        if now >= self.stage.members.look_again:
            self.stage.members.refresh(now)
        why = {each: each.available(now) for each in service.instances}
        able = [each for each in service.instances if each.available(now).ok]
        standing = [each for each in service.instances if each.standing(now).ok]
        open_circuit = service.breaker is not None and not service.breaker.ready(now)
        try:
            attempt = self.real_begin(client, policy, tried)
        except GatewayError as refusal:
            code = refusal.code
            # Backups are for when the others are out of use, not for when they are busy.
            busy = [each for each in standing if each not in able]
            someone = [each for each in able if each not in tried]
            rightly = {"circuit_open": open_circuit, "no_instance": busy or not someone}
            assert rightly[code], (code, someone)
            raise
        assert not open_circuit
        instance = attempt.instance
        assert instance in service.instances
        if service.panicking:
            assert instance.nominal
            assert not instance.draining
            assert instance.breaker.state != "forced_open"
        else:
            assert instance in able, why[instance]
            # A backup whose circuit is open is not probed while others will do.
            others = [
                each
                for each in able
                if each not in client.tried
                and not (each.backup and each.breaker.state in ("open", "half_open"))
            ]
            if instance.backup:
                # If nobody else is there, or all others have failed this very request.
                assert all(each.backup or each.breaker.state != "closed" for each in others)
            if instance in client.tried:
                assert not others, (instance, others)
        client.tried.append(instance)
        self.tries += 1
        return attempt

    # -- requests -------------------------------------------------------------------------------

    @rule(events=st.lists(st.tuples(TRAFFIC, WHICH), min_size=20, max_size=60))
    def traffic(self, events: list[tuple[str, int]]) -> None:
        for what, which in events:
            if what in REQUESTS:
                self.comes(*REQUESTS[what])
            elif what == "connect":
                self.connects()
            elif what in CONNECTS and self.making:
                self.does_not_connect(*self.making[which % len(self.making)], what)
            elif what in (*ANSWERS, *FAILURES) and self.asked:
                self.answers(self.asked[which % len(self.asked)], what)
            elif what in ENDS and self.streaming:
                self.ends(self.streaming[which % len(self.streaming)], what)
            elif what == "events":
                self.is_endless()
            elif what == "leaves" and self.waiting:
                self.leaves(self.waiting[which % len(self.waiting)])
            elif what in ("0.05", "0.2", "1"):
                self.stage.pass_time(float(what))
            self.what_is_in_flight_is_counted()
            self.limits_are_kept()
            self.nobody_waits_without_need()

    def comes(self, method: bytes, key: bool, kept: bool | None) -> None:
        fields = {b"idempotency-key": b"1"} if key else {}
        body = None if kept is None else Payload(keeps=kept)
        self.stage.comes(method, fields, body)

    def connects(self) -> None:
        for instance, making in self.making:
            if making in pool_of(instance).making:
                pool_of(instance).connected(making)

    def does_not_connect(self, instance: Instance, making: Any, why: str) -> None:
        errors = {
            "refused": UpstreamFailed("refused", kind="connect", retryable=True),
            "no time to connect": UpstreamTimeout("connect", retryable=True),
            "no room": GatewayError(503, "upstream_busy", "busy", fault="gateway"),
        }
        pool_of(instance).refused(making, errors[why])

    def answers(self, connection: FakeConnection, how: str) -> None:
        if how.startswith("begin"):
            connection.begins(int(how.removeprefix("begin ")))
        elif how == "reset":
            connection.resets()
        elif how == "cut off":
            connection.resets(heard=True)
        elif how == "too late":
            connection.times_out()
        elif how == "invalid":
            connection.breaks(UpstreamFailed("nonsense", retryable=True))
        else:
            connection.answers(int(how))

    def ends(self, connection: FakeConnection, how: str) -> None:
        if how == "breaks":
            connection.resets()
        elif how == "is silent":
            connection.times_out()
        elif connection.read:
            connection.ends()

    def is_endless(self) -> None:
        for client in self.waiting:
            if client.answer is not None and not client.answer.complete:
                client.answer.endless()

    def leaves(self, client: Client) -> None:
        client.leaves()
        assert client.over
        assert isinstance(client.error, ClientGone)

    # -- instances ------------------------------------------------------------------------------

    @precondition(lambda self: self.operators)
    @rule(which=WHICH, what=st.sampled_from(["force_open", "reset", "disable", "reset"]))
    def an_operator_and_a_breaker(self, which: int, what: str) -> None:
        breakers = [each.breaker for each in self.service.instances]
        if self.service.breaker is not None:
            breakers.append(self.service.breaker)
        if breakers:
            getattr(breakers[which % len(breakers)], what)(self.now)

    @precondition(lambda self: self.changes)
    @rule(
        which=WHICH,
        what=st.sampled_from(["add", "remove", "drain", "undrain", "0", "1", "5", "up", "down"]),
    )
    def an_instance_changes(self, which: int, what: str) -> None:
        service, id = self.service, f"{NAMES[which]}:80"
        if not any(each.id == id for each in service.instances):
            service.add(found(NAMES[which]))
        elif what in ("up", "down"):
            self.is_checked(service.find(id), up=what == "up")
        elif what == "remove":
            service.remove(id)
        elif what in ("drain", "undrain"):
            getattr(service, what)(id)
        elif what.isdigit():
            service.reweigh(id, int(what))

    def is_checked(self, instance: Instance, *, up: bool) -> None:
        assert instance.health is not None
        health = instance.health.health
        if health.passed(self.now) if up else health.failed(self.now, "status 500"):
            if up:
                instance.recovered(self.now)
            self.stage.members.changed()

    @precondition(lambda self: self.changes)
    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1), weight=st.integers(0, 2))
    def others_are_discovered(self, names: set[str], weight: int) -> None:
        self.stage.members.update([found(each, weight) for each in sorted(names)], self.now)

    @rule(seconds=st.sampled_from([1.0, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.stage.pass_time(seconds)
        room = self.service.room
        if room is not None and room.waiting:
            assert not self.service._has_room(), "somebody waits, and there is room"

    # -- what holds -----------------------------------------------------------------------------

    @invariant()
    def nobody_is_asked_who_must_not_be(self) -> None:
        for problem in self.problems:
            raise problem
        for client in self.clients:
            assert client.error is None or isinstance(client.error, GatewayError), client.error

    @invariant()
    def what_is_in_flight_is_counted(self) -> None:
        self.nobody_is_asked_who_must_not_be()
        counted = 0
        for instance in self.stage.everybody:
            assert instance.inflight == pool_of(instance).busy, (instance, self.clients)
            counted += instance.inflight
        assert self.service.inflight == counted
        known = (*self.service.instances, *self.service.leaving)
        assert counted == sum(each.inflight for each in known)

    @invariant()
    def nobody_waits_without_need(self) -> None:
        """What changes otherwise is found within a second."""
        room = self.service.room
        quiet = self.policy.hedge is None and not self.changes and not self.operators
        known = self.now < self.stage.members.look_again
        if room is not None and room.waiting and quiet and known:
            assert not self.service._has_room()

    @invariant()
    def limits_are_kept(self) -> None:
        limits = self.service.settings.concurrency
        for instance in self.stage.everybody:
            breaker = instance.breaker
            assert 0 <= breaker.probes <= breaker.settings.half_open_calls
            if limits.per_instance:
                assert instance.inflight <= limits.per_instance
        if limits.limit:
            assert self.service.inflight <= limits.limit
        if self.service.breaker is not None:
            assert 0 <= self.service.breaker.probes <= 1
        if self.service.room is not None:
            assert self.service.room.waiting <= limits.queue

    @invariant()
    def nothing_is_tried_too_often(self) -> None:
        for client in self.clients:
            # Two at most where one is configured: a stale connection, or a hedge.
            assert client.attempts == len(client.tried) <= max(2, self.policy.attempts)
            if not repeatable(client, self.policy):
                assert len(client.sent) <= 1
        further = self.tries - sum(bool(each.tried) for each in self.clients)
        assert further == sum(self.service.retries.values()) + self.service.hedges
        budget = self.service.settings.retry.budget
        if budget.enabled:
            seconds = self.now - self.began
            reserve = 10 * budget.per_second
            income = budget.ratio * self.service.requests + budget.per_second * seconds
            assert further <= income + reserve + 1e-6

    @invariant()
    def what_an_instance_said_is_passed_on(self) -> None:
        for client in self.clients:
            if client.over and client.answer is None and client.said:
                assert isinstance(client.error, ClientGone), client.error

    # -- in the end -----------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            self.patches.close()
            return
        try:
            self.settle()
            self.recovers()
            self.settle()
            self.service.close()
        finally:
            self.patches.close()

    def settle(self) -> None:
        """All requests over: nothing is left of them."""
        for client in self.waiting:
            client.leaves()
            assert client.over
        self.what_is_in_flight_is_counted()
        assert self.service.inflight == 0
        assert not self.lent
        assert not self.making
        assert not self.stage.clock.getDelayedCalls()
        for instance in self.stage.everybody:
            assert instance.breaker.probes == 0
        if self.service.breaker is not None:
            assert self.service.breaker.probes == 0
        if self.service.room is not None:
            assert self.service.room.waiting == 0
        self.service.tick(self.now)
        assert not self.service.leaving

    def recovers(self) -> None:
        """With the trouble over, everything is as before, by itself."""
        service = self.service
        if service.breaker is not None and service.breaker.state == "forced_open":
            service.breaker.reset(self.now)
        for instance in service.instances:
            if instance.breaker.state == "forced_open":
                instance.breaker.reset(self.now)
            instance.backup = False
            service.undrain(instance.id)
            service.reweigh(instance.id, 1)
            if instance.health is not None:
                self.is_checked(instance, up=True)
        if not service.instances:
            service.add(found("a"))
        self.stage.pass_time(310.0)
        for _ in range(40):
            client = self.stage.comes()
            for instance, making in self.making:
                pool_of(instance).connected(making)
            for connection in self.asked:
                connection.answers()
            assert client.answer is not None, (client, self.now, service)
        for instance in service.instances:
            assert instance.breaker.state in ("closed", "disabled"), (instance, self.now, service)
            assert instance.available(self.now).ok


class ServiceMachineTests(SynchronousTestCase):
    def test_any_order_of_events(self) -> None:
        """Nothing is lost, nothing is taken twice, nobody is asked who must not be."""
        run_state_machine_as_test(
            Services, settings=settings(PROPERTY, max_examples=50, stateful_step_count=15)
        )
