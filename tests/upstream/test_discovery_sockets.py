"""Instances that come and go: names asked of a real name server, and files that change."""

from __future__ import annotations

# mypy: allow-untyped-calls
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.names import dns, server
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from rtgateway import config
from rtgateway.upstream.discovery import Discovery, Found, make_discovery
from rtgateway.upstream.dns_discovery import DnsDiscovery
from rtgateway.upstream.dns_query import LookupFailed, lookup, system_servers
from rtgateway.upstream.file_discovery import FileDiscovery
from rtgateway.upstream.findings import MOST_INSTANCES
from tests.net.loop import LoopTestCase, on_loop

NAME = "users.test"


class NameServer(server.DNSServerFactory):
    """Knows what it is told to know.

    :ivar records: by name and type.
    :ivar asked: (name, type) of all questions, and whether over TCP.
    :ivar failing: types that are answered with SERVFAIL.
    :ivar silent: types that are not answered, as often as said.
    :ivar streams: whether questions over TCP are answered.
    :ivar forged: whether answers come after some that don't fit.
    """

    noisy = False

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[tuple[str, int], list[dns.RRHeader]] = {}
        self.additional: list[dns.RRHeader] = []
        self.asked: list[tuple[str, int, bool]] = []
        self.failing: set[int] = set()
        self.silent: dict[int, int] = {}
        self.streams = True
        self.forged = False

    def add(self, name: str, payload: Any, ttl: int = 0) -> None:
        record = dns.RRHeader(name, payload.TYPE, dns.IN, ttl, payload)
        self.records.setdefault((name, payload.TYPE), []).append(record)

    def addresses(self, name: str, *hosts: str, ttl: int = 0) -> None:
        """Exactly these addresses."""
        for kind in (dns.A, dns.AAAA):
            self.records.pop((name, kind), None)
        for host in hosts:
            self.add(name, dns.Record_AAAA(host) if ":" in host else dns.Record_A(host), ttl)

    def handleQuery(self, message: Any, protocol: Any, address: Any) -> None:
        question = message.queries[0]
        name, kind = question.name.name.decode(), question.type
        self.asked.append((name, kind, address is None))
        if self.silent.get(kind, 0) > 0:
            self.silent[kind] -= 1
            return
        if address is None and not self.streams:
            return
        answers = self.records.get((name, kind)) or self.records.get((name, dns.CNAME), [])
        known = any(key[0] == name for key in self.records)
        code = dns.ESERVER if kind in self.failing else dns.OK if known else dns.ENAME
        reply = self._responseFromMessage(message, code, answers, [], self.additional)
        if address is not None:
            reply.maxSize = 512
            if self.forged:
                other = self._responseFromMessage(message, dns.ENAME, [], [], [])
                other.id ^= 1
                protocol.transport.write(b"nonsense", address)
                self.sendReply(protocol, other, address)
        self.sendReply(protocol, reply, address)


class Sets:
    """What was found, set by set, as ``url`` texts or more."""

    def __init__(self) -> None:
        self.all: list[Sequence[Found]] = []

    def __call__(self, found: Sequence[Found]) -> None:
        self.all.append(found)

    @property
    def urls(self) -> list[list[str]]:
        return [[each.settings.url for each in found] for found in self.all]


class Logs:
    """Texts of what is logged at the level of warnings and above while a test runs."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.texts: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_level"] >= LogLevel.warn:
                self.texts.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        test.addCleanup(globalLogPublisher.removeObserver, observe)


class DnsTestCase(LoopTestCase):
    async def serving(self) -> NameServer:
        """A name server over UDP and TCP on one port."""
        names = NameServer()
        while True:
            tcp = self.reactor.listenTCP(0, names, interface="127.0.0.1")
            port = tcp.getHost().port
            datagrams = dns.DNSDatagramProtocol(names, reactor=self.reactor)
            try:
                udp = self.reactor.listenUDP(port, datagrams, interface="127.0.0.1")
                break
            except CannotListenError:
                await tcp.stopListening()
        self.ports = [tcp, udp]
        self.server = ("127.0.0.1", port)
        self.logs = Logs(self)
        return names

    async def done(self, *discoveries: Discovery) -> None:
        """Stop everything. What is left then fails the test."""
        for discovery in discoveries:
            discovery.stop()
        for port in self.ports:
            await port.stopListening()
        await self.turn()
        await self.turn(0.01)

    def discovery(self, sets: Callable[[Sequence[Found]], None], **settings: Any) -> DnsDiscovery:
        settings = {
            "name": NAME,
            "port": 3001,
            "resolvers": ["{}:{}".format(*self.server)],
            "min_ttl": 0.05,
            **settings,
        }
        made = config.DnsDiscovery.model_validate(settings)
        discovery = DnsDiscovery(made, sets, self.reactor, lambda: 0.0)
        discovery.start()
        return discovery

    def next_wait(self) -> int:
        """Seconds, about, until the discovery asks again; the test has timers of its own."""
        now = self.reactor.seconds()
        waits = [round(call.getTime() - now) for call in self.reactor.getDelayedCalls()]
        return int(max((wait for wait in waits if wait > 15), default=0))


class AddressTests(DnsTestCase):
    @on_loop
    async def test_each_address_is_an_instance(self) -> None:
        """IPv4 and IPv6 side by side, asked for by IP, with the name for Host and TLS."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.2", "10.0.0.10", "fd00::1", "10.0.0.2", "0.0.0.0")
        sets = Sets()
        discovery = self.discovery(sets, scheme="https", path="/base", name="Users.Test.")
        await self.until(lambda: sets.all)
        self.assertEqual(
            sets.urls[0],
            [
                "https://10.0.0.2:3001/base",
                "https://10.0.0.10:3001/base",
                "https://[fd00::1]:3001/base",
            ],
        )
        self.assertEqual({each.authority for each in sets.all[0]}, {"users.test:3001"})
        self.assertEqual({each.server_name for each in sets.all[0]}, {"users.test"})
        await self.done(discovery)

    @on_loop
    async def test_only_changes_are_told(self) -> None:
        """A set is told when it differs; the order of the records makes no difference."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.1", "10.0.0.2")
        sets = Sets()
        discovery = self.discovery(sets)
        await self.until(lambda: len(names.asked) >= 4)
        names.addresses(NAME, "10.0.0.2", "10.0.0.1")
        seen = len(names.asked)
        await self.until(lambda: len(names.asked) >= seen + 4)
        self.assertEqual(len(sets.all), 1)
        names.addresses(NAME, "10.0.0.2", "10.0.0.3")
        await self.until(lambda: len(sets.all) == 2)
        self.assertEqual(sets.urls[1], ["http://10.0.0.2:3001", "http://10.0.0.3:3001"])
        await self.done(discovery)

    @on_loop
    async def test_nothing_good_keeps_what_was_good(self) -> None:
        """No such name, no records, a failing server: the instances stay, the reason is logged."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.1")
        sets = Sets()
        discovery = self.discovery(sets, max_ttl=0.05)
        await self.until(lambda: sets.all)

        async def goes_wrong(reason: str) -> None:
            await self.until(lambda: discovery.describe()["last_error"] == reason)
            again = len(names.asked) + 4
            await self.until(lambda: len(names.asked) >= again)
            self.assertEqual(len([text for text in self.logs.texts if reason in text]), 1)

        names.records.clear()
        await goes_wrong("no such name")
        names.add(NAME, dns.Record_TXT(b"nothing here"))
        await goes_wrong("the name has no such records")
        names.failing = {dns.A, dns.AAAA}
        await goes_wrong("A: 127.0.0.1 failed; AAAA: 127.0.0.1 failed")
        names.failing.clear()
        names.addresses(NAME, "0.0.0.0")
        await goes_wrong("no address that can be used; the name has no such records")
        self.assertEqual(len(sets.all), 1)
        names.addresses(NAME, "10.0.0.9")
        await self.until(lambda: len(sets.all) == 2)
        self.assertIsNone(discovery.describe()["last_error"])
        await self.done(discovery)

    @on_loop
    async def test_a_family_that_is_not_told_about_keeps_its_addresses(self) -> None:
        """A server that fails for AAAA only does not take the IPv6 instances away."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.1", "fd00::1")
        sets = Sets()
        discovery = self.discovery(sets)
        await self.until(lambda: sets.all)
        names.failing = {dns.AAAA}
        names.addresses(NAME, "10.0.0.2")
        await self.until(lambda: len(sets.all) == 2)
        self.assertEqual(sets.urls[1], ["http://10.0.0.2:3001", "http://[fd00::1]:3001"])
        self.assertEqual(discovery.describe()["last_error"], "AAAA: 127.0.0.1 failed")
        names.failing.clear()
        await self.until(lambda: len(sets.all) == 3)
        self.assertEqual(sets.urls[2], ["http://10.0.0.2:3001"])
        await self.done(discovery)

    @on_loop
    async def test_the_ttl_says_when_to_ask_again(self) -> None:
        """The smallest TTL of all records counts, within bounds."""
        names = await self.serving()
        for ttls, wait in (((300, 40), 40), ((2, 1), 20), ((3000, 4000), 90)):
            names.addresses(NAME, "10.0.0.1", ttl=ttls[0])
            names.add(NAME, dns.Record_AAAA("fd00::1"), ttls[1])
            sets = Sets()
            discovery = self.discovery(sets, min_ttl=20, max_ttl=90)
            await self.until(partial(getattr, sets, "all"))
            self.assertEqual(self.next_wait(), wait)
            self.assertEqual(discovery.describe()["ttl"], min(ttls))
            discovery.stop()
        await self.done()

    @on_loop
    async def test_failures_are_asked_again_less_and_less_often(self) -> None:
        """From the lower bound, doubled, to the upper bound."""
        names = await self.serving()
        discovery = self.discovery(Sets(), min_ttl=20, max_ttl=60)
        waits = []
        for _ in range(3):
            await self.until(lambda: len(names.asked) == 2)
            await self.until(lambda: self.next_wait() >= 20)
            waits.append(self.next_wait())
            names.asked.clear()
            (call,) = [
                call
                for call in self.reactor.getDelayedCalls()
                if call.getTime() > self.reactor.seconds() + 15
            ]
            call.reset(0)
        self.assertEqual(waits, [20, 40, 60])
        await self.done(discovery)

    @on_loop
    async def test_aliases_are_followed(self) -> None:
        """Also when the server does not say what the alias stands for; a circle is an error."""
        names = await self.serving()
        names.add(NAME, dns.Record_CNAME("other.test"), 30)
        names.addresses("other.test", "10.0.0.1", ttl=60)
        sets = Sets()
        discovery = self.discovery(sets)
        await self.until(lambda: sets.all)
        self.assertEqual(sets.urls, [["http://10.0.0.1:3001"]])
        self.assertEqual(sets.all[0][0].authority, "users.test:3001")
        self.assertEqual(discovery.describe()["ttl"], 30)
        discovery.stop()
        names.records.clear()
        names.add(NAME, dns.Record_CNAME(NAME))
        discovery = self.discovery(Sets())
        await self.until(lambda: discovery.describe()["last_error"])
        self.assertIn("more than 8 aliases", str(discovery.describe()["last_error"]))
        await self.done(discovery)

    @on_loop
    async def test_a_long_answer_comes_over_tcp(self) -> None:
        """More than a datagram holds; as many instances as a service may have, and no more."""
        names = await self.serving()
        many = [f"10.0.{number // 250}.{number % 250}" for number in range(MOST_INSTANCES + 9)]
        names.addresses(NAME, *many)
        sets = Sets()
        discovery = self.discovery(sets, min_ttl=30)
        await self.until(lambda: sets.all)
        self.assertEqual(len(sets.all[0]), MOST_INSTANCES)
        self.assertIn((NAME, dns.A, True), names.asked)
        self.assertIn("only the first 1024", str(discovery.describe()["last_error"]))
        await self.until(lambda: not names.connections)
        await self.done(discovery)

    @on_loop
    async def test_stopped_while_asking(self) -> None:
        """Nothing is told, and nothing is left, whatever it was waiting for."""
        names = await self.serving()
        names.silent = {dns.A: 9, dns.AAAA: 9}
        sets = Sets()
        discovery = self.discovery(sets)
        await self.until(lambda: len(names.asked) == 2)
        discovery.stop()
        names.silent.clear()
        names.streams = False
        names.addresses(NAME, *(f"10.0.0.{number}" for number in range(100)))
        discovery = self.discovery(sets)
        await self.until(lambda: names.connections)
        await self.done(discovery)
        await self.until(lambda: not names.connections)
        self.assertEqual(sets.all, [])

    @on_loop
    async def test_whoever_takes_the_instances_may_fail(self) -> None:
        """That is logged, and the name is asked again all the same."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.1")

        def refuse(found: Sequence[Found]) -> None:
            raise ValueError("no")

        discovery = self.discovery(refuse)
        await self.until(lambda: len(names.asked) >= 4)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        await self.done(discovery)


class TargetTests(DnsTestCase):
    def targets(self, names: NameServer, *rows: tuple[int, int, int, str]) -> None:
        names.records.pop((NAME, dns.SRV), None)
        for priority, weight, port, target in rows:
            names.add(NAME, dns.Record_SRV(priority, weight, port, target), 60)

    async def found(self, **settings: Any) -> Sequence[Found]:
        sets = Sets()
        discovery = self.discovery(sets, type="srv", min_ttl=30, **settings)
        await self.until(lambda: sets.all or discovery.describe()["last_error"])
        self.said = discovery.describe()
        discovery.stop()
        return sets.all[0] if sets.all else ()

    @on_loop
    async def test_targets_with_port_weight_and_priority(self) -> None:
        """The lowest priority is asked first, the others are its backups."""
        names = await self.serving()
        self.targets(
            names, (20, 5, 3003, "c.test"), (10, 0, 3001, "a.test"), (10, 7, 3002, "B.test.")
        )
        instances = [each.settings for each in await self.found()]
        self.assertEqual(
            [(each.id, each.weight, each.backup) for each in instances],
            [("b.test:3002", 7, False), ("a.test:3001", 1, False), ("c.test:3003", 5, True)],
        )
        await self.done()

    @on_loop
    async def test_addresses_that_come_along_are_used(self) -> None:
        """Then the target is the name for Host and TLS; the TTL of its addresses counts, too."""
        names = await self.serving()
        self.targets(names, (1, 1, 80, "a.test"), (1, 1, 3002, "b.test"))
        for host in ("10.0.0.1", "10.0.0.2"):
            payload = dns.Record_A(host)
            names.additional.append(dns.RRHeader("A.test", dns.A, dns.IN, 45, payload))
        self.assertEqual(
            [
                (each.settings.label, each.authority, each.server_name)
                for each in await self.found()
            ],
            [
                ("http://10.0.0.1", "a.test", "a.test"),
                ("http://10.0.0.2", "a.test", "a.test"),
                ("http://b.test:3002", None, None),
            ],
        )
        self.assertEqual(self.said["ttl"], 45)
        await self.done()

    @on_loop
    async def test_large_weights_keep_their_proportions(self) -> None:
        """SRV weights go further than those of instances."""
        names = await self.serving()
        self.targets(names, (1, 65535, 1, "a.test"), (1, 6554, 1, "b.test"), (1, 1, 1, "c.test"))
        weights = [each.settings.weight for each in await self.found()]
        self.assertEqual(weights, [1000, 100, 1])
        await self.done()

    @on_loop
    async def test_records_that_make_no_instance(self) -> None:
        """One bad record is left out; nothing but bad ones is a failure."""
        names = await self.serving()
        self.targets(names, (1, 1, 0, "a.test"), (1, 1, 3001, "b.test"), (1, 1, 1, "no host"))
        self.assertEqual([each.settings.id for each in await self.found()], ["b.test:3001"])
        self.assertIn("can't be used", str(self.said["last_error"]))
        self.targets(names, (1, 1, 0, "a.test"))
        self.assertEqual(await self.found(), ())
        self.targets(names, (0, 0, 0, ""))
        self.assertEqual(await self.found(), ())
        self.assertIn("not available", str(self.said["last_error"]))
        await self.done()


class LookupTests(DnsTestCase):
    async def ask(self, *servers: tuple[str, int], timeout: float = 5.0) -> list[str]:
        message = await lookup(b"users.test", dns.A, servers, timeout, self.reactor)
        payloads: list[Any] = [record.payload for record in message.answers]
        return [payload.dottedQuad() for payload in payloads]

    def unused(self) -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            return int(taken.getsockname()[1])

    @on_loop
    async def test_a_lost_datagram_is_sent_again(self) -> None:
        """Before the time is up."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.1")
        names.silent = {dns.A: 1}
        self.assertEqual(await self.ask(self.server, timeout=2), ["10.0.0.1"])
        self.assertEqual(len(names.asked), 2)
        await self.done()

    @on_loop
    async def test_the_next_server_is_asked(self) -> None:
        """After one that isn't there, and one that says nothing."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.1")
        started = self.reactor.seconds()
        gone = ("127.0.0.1", self.unused())
        self.assertEqual(await self.ask(gone, self.server), ["10.0.0.1"])
        self.assertLess(self.reactor.seconds() - started, 2)
        names.silent = {dns.A: 2}
        self.assertEqual(await self.ask(self.server, self.server, timeout=0.2), ["10.0.0.1"])
        await self.done()

    @on_loop
    async def test_nobody_answers(self) -> None:
        """The last reason is told."""
        names = await self.serving()
        names.silent = {dns.A: 9}
        with self.assertRaises(LookupFailed) as caught:
            await self.ask(self.server, timeout=0.05)
        self.assertEqual(str(caught.exception), "127.0.0.1: no answer within 0.05 s")
        with self.assertRaises(LookupFailed) as caught:
            await self.ask(("127.0.0.1", self.unused()))
        self.assertEqual(str(caught.exception), "127.0.0.1: Connection refused")
        await self.done()

    @on_loop
    async def test_forged_answers_are_ignored(self) -> None:
        """Those that don't fit the question; the right one may still come."""
        names = await self.serving()
        names.addresses(NAME, "10.0.0.1")
        names.forged = True
        self.assertEqual(await self.ask(self.server), ["10.0.0.1"])
        await self.done()

    @on_loop
    async def test_tcp_that_is_not_served(self) -> None:
        """A server that truncates, and can't be reached otherwise."""
        names = await self.serving()
        names.addresses(NAME, *(f"10.0.0.{number}" for number in range(100)))
        await self.ports.pop(0).stopListening()
        with self.assertRaises(LookupFailed) as caught:
            await self.ask(self.server)
        self.assertIn("over TCP", str(caught.exception))
        self.assertIn("Connection refused", str(caught.exception))
        await self.done()

    def test_resolv_conf(self) -> None:
        """The first three addresses; without any, this machine."""
        path = Path(self.temporary("resolv.conf"))
        self.assertEqual(system_servers(path), [("127.0.0.1", 53)])
        path.write_text(
            "# nameserver 10.0.0.9\nsearch example.test\nnameserver 10.0.0.1\nnameserver\n"
            "nameserver localhost\n nameserver fd00::1 \nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
        )
        self.assertEqual(
            system_servers(path), [("10.0.0.1", 53), ("fd00::1", 53), ("10.0.0.2", 53)]
        )


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.mkdtemp(prefix="discovery")
        self.addCleanup(shutil.rmtree, folder)
        self.path = Path(folder, "instances.yaml")
        self.clock = Clock()
        self.sets = Sets()
        self.logs = Logs(self)

    def start(self, name: str = "instances.yaml") -> Discovery:
        self.path = self.path.with_name(name)
        if not self.path.exists():
            self.path.touch()
        file = config.FileDiscovery.model_validate({"path": str(self.path), "interval": 1})
        settings = config.Discovery(file=file)
        reactor: Any = self.clock
        discovery = make_discovery(settings, self.sets, reactor, lambda: 0.0)
        self.assertIsInstance(discovery, FileDiscovery)
        discovery.start()
        self.addCleanup(self.stop, discovery)
        return discovery

    def stop(self, discovery: Discovery) -> None:
        discovery.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def replace(self, text: str | bytes) -> None:
        """Put a new file in the place of the old one, as careful programs do."""
        other = self.path.with_suffix(".new")
        other.write_bytes(text if isinstance(text, bytes) else text.encode())
        other.replace(self.path)

    def test_urls_and_mappings(self) -> None:
        """As the instances of a service are written; there at once."""
        self.path.write_text(
            "- http://10.0.0.1:3001\n- {url: 'https://b.test/x', weight: 5, backup: true}\n"
        )
        self.start()
        (found,) = self.sets.all
        self.assertEqual(
            [(each.settings.label, each.settings.weight, each.settings.backup) for each in found],
            [("http://10.0.0.1:3001", 1, False), ("https://b.test/x", 5, True)],
        )
        self.assertEqual({(each.authority, each.server_name) for each in found}, {(None, None)})

    def test_json(self) -> None:
        """By its extension; with the list in a mapping."""
        self.path.with_name("a.json").write_text(json.dumps({"instances": ["http://a.test"]}))
        self.start("a.json")
        self.assertEqual(self.sets.urls, [["http://a.test"]])

    def test_changes_are_seen_within_an_interval(self) -> None:
        """A replaced file, one that is written in place, and one that is the same as before."""
        self.path.write_text("[http://a.test]")
        self.start()
        self.replace("[http://b.test]")
        self.clock.advance(1)
        self.assertEqual(self.sets.urls[1:], [["http://b.test"]])
        with self.path.open("a") as file:
            file.write("\n\n")
        self.clock.pump([1] * 3)
        self.assertEqual(len(self.sets.all), 2)
        self.path.write_text("[http://c.test, http://d.test]")
        self.clock.advance(1)
        self.assertEqual(self.sets.urls[2:], [["http://c.test", "http://d.test"]])

    def test_a_change_within_a_tick_of_the_clock_is_seen(self) -> None:
        """The same size, time and inode: a change right after a look does not go unnoticed."""
        self.path.write_text("[http://a.test]")
        stat = self.path.stat()
        self.start()
        self.path.write_text("[http://b.test]")
        os.utime(self.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.clock.advance(1)
        self.assertEqual(self.sets.urls[-1], ["http://b.test"])

    def wrong(self, content: str | bytes | None, name: str = "instances.yaml") -> str:
        """What is said about a file that changes from good to this."""
        self.path = self.path.with_name(name)
        self.path.write_text('["http://a.test"]')
        discovery = self.start(name)
        if content is None:
            self.path.unlink()
        else:
            self.replace(content)
        self.clock.pump([1] * 4)
        self.assertEqual(self.sets.urls, [["http://a.test"]])
        said = discovery.describe()
        self.assertEqual((said["instances"], said["last_success"]), (1, 4.0))
        (text,) = self.logs.texts
        self.assertIn(str(said["last_error"]), text)
        self.assertIn("1 instances are known", text)
        self.logs.texts.clear()
        self.replace('["http://z.test"]')
        self.clock.advance(1)
        self.assertEqual(self.sets.urls[1:], [["http://z.test"]])
        self.assertIsNone(discovery.describe()["last_error"])
        discovery.stop()
        self.sets.all.clear()
        return str(said["last_error"])

    def test_a_bad_file_changes_nothing_and_is_explained(self) -> None:
        """Once in the log, and as long as it is bad in the description."""
        bound = MOST_INSTANCES + 1
        for content, reason in (
            (None, "can't be read: No such file or directory"),
            ("", "empty"),
            ("[]", "empty"),
            ("{instances: []}", "empty"),
            ("just text", 'found "just text"; allowed: a list'),
            ("a: b", "found a mapping; allowed: a list"),
            ("- [", "not valid YAML"),
            (b"\xff", "not UTF-8 text"),
            ("- ftp://a", "instances[0].url: a URL such as"),
            ("- {url: http://a, weight: x}", "instances[0].weight: "),
            ("- {url: http://a, wait: 1}", "instances[0].wait: "),
            ("- http://a\n- http://b\n- http://A:80/", "instances[2]: the same instance as"),
            ("\n".join(f"- http://a:{port}" for port in range(1, bound + 1)), f"{bound} instances"),
            (b"#" * (1 << 20) + b"\n", "larger than 1 MiB"),
        ):
            self.assertIn(reason, self.wrong(content))
        self.assertIn("not valid JSON", self.wrong("{", "a.json"))
        self.assertEqual(self.wrong(" ", "a.json"), "empty")

    def test_something_that_is_no_file(self) -> None:
        """A pipe must not stop the gateway until somebody writes into it."""
        discovery = self.start()
        self.path.unlink()
        os.mkfifo(self.path)
        self.clock.advance(1)
        self.assertEqual(discovery.describe()["last_error"], "not a file")

    def test_stopped(self) -> None:
        """Changes are not seen any more; stopping twice does no harm."""
        self.path.write_text("[http://a.test]")
        discovery = self.start()
        discovery.stop()
        self.replace("[http://b.test]")
        self.clock.advance(5)
        self.assertEqual(len(self.sets.all), 1)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, content: bytes) -> None:
        """Nothing that a file may hold ends the watch."""
        discovery = self.start("any.json" if len(content) % 2 else "any.yaml")
        self.replace(content)
        self.clock.advance(1)
        self.assertIsNotNone(discovery.describe()["last_error"])
        discovery.stop()


class MakeTests(SynchronousTestCase):
    def test_dns(self) -> None:
        """The other source; it is not started yet, and can be stopped."""
        settings = config.Discovery.model_validate({"dns": {"name": NAME, "port": 80}})
        reactor: Any = Clock()
        discovery = make_discovery(settings, Sets(), reactor, lambda: 0.0)
        discovery.stop()
        self.assertEqual(
            discovery.describe(),
            {
                "source": "dns a users.test",
                "instances": 0,
                "last_success": None,
                "last_error": None,
                "ttl": None,
            },
        )
