"""Services whose instances are looked up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rtgateway.config import Discovery, DnsDiscovery, FileDiscovery, Service, from_dict, load
from tests.config.case import ConfigTestCase


def mapping(**keys: Any) -> dict[str, Any]:
    """A configuration of one service."""
    return {"services": {"s": keys}}


def dns(**keys: Any) -> dict[str, Any]:
    """A configuration of a service that is looked up in DNS."""
    return mapping(discovery={"dns": {"name": "users.internal", **keys}})


def dns_of(**keys: Any) -> DnsDiscovery:
    """What is looked up."""
    discovery = from_dict(dns(**keys)).services["s"].discovery
    assert discovery is not None
    assert discovery.dns is not None
    return discovery.dns


class Sources(ConfigTestCase):
    """``discovery``."""

    def test_no_instances(self) -> None:
        """With discovery, instances may be left out, or be there as well, even with weight 0."""
        self.assertEqual(from_dict(dns(port=80)).services["s"].instances, ())
        idle = {"instances": [{"url": "http://a", "weight": 0}]}
        both = mapping(**idle, **dns(port=80)["services"]["s"])
        self.assertEqual(len(from_dict(both).services["s"].instances), 1)
        self.assert_problem(
            mapping(discovery=None, instances=[]),
            "services.s.instances: no instance; allowed: at least one, or discovery",
        )

    def test_exactly_one(self) -> None:
        """There is one source."""
        file = self.temporary_file()
        file.touch()
        words = "allowed: either dns or file"
        self.assert_problem(mapping(discovery={}), f"services.s.discovery: found neither; {words}")
        self.assert_problem(
            mapping(discovery={"dns": {"name": "a", "port": 1}, "file": str(file)}),
            f"services.s.discovery: found dns and file; {words}",
        )

    def test_file(self) -> None:
        """A path is enough; the file must be there."""
        file = self.temporary_file()
        self.assert_problem(
            mapping(discovery={"file": str(file)}),
            f"services.s.discovery.file.path: {file} does not exist; "
            "allowed: a file that can be read",
        )
        file.touch()
        expected = Service(discovery=Discovery(file=FileDiscovery(path=file)))
        for given in (str(file), {"path": str(file)}, {"path": str(file), "interval": "1s"}):
            found = from_dict(mapping(discovery={"file": given})).services["s"]
            self.assertEqual(found, expected)

    def test_relative_file(self) -> None:
        """The file is looked for where the configuration is."""
        file = self.temporary_file()
        file.with_name("instances.yaml").touch()
        file.write_text("services: {s: {discovery: {file: instances.yaml}}}")
        discovery = load(file).services["s"].discovery
        assert discovery is not None
        assert discovery.file is not None
        self.assertEqual(discovery.file.path, Path(file.with_name("instances.yaml")))


class Dns(ConfigTestCase):
    """``discovery.dns``."""

    def test_port(self) -> None:
        """Addresses need a port; SRV records bring their own."""
        self.assertEqual(dns_of(port="3000").port, 3000)
        self.assertIsNone(dns_of(type="srv", name="_http._tcp.users.internal").port)
        words = "allowed: a port from 1 to 65535"
        for keys in ({}, {"type": "a"}):
            self.assert_problem(
                dns(**keys),
                "services.s.discovery.dns.port: is missing, but records of type a have no port; "
                + words,
            )
        self.assert_problem(
            dns(port=0),
            "services.s.discovery.dns.port: found 0; allowed: a whole number from 1 to 65535",
        )

    def test_resolvers(self) -> None:
        """Name servers have addresses, with the port of DNS if not another."""
        found = dns_of(port=1, resolvers="10.0.0.2, 10.0.0.3:5353, [fd00::2]:54, ::1, [::2]")
        self.assertEqual(
            found.servers,
            (("10.0.0.2", 53), ("10.0.0.3", 5353), ("fd00::2", 54), ("::1", 53), ("::2", 53)),
        )
        self.assertEqual(DnsDiscovery(name="a", port=1).servers, ())
        for wrong in ("ns.internal", "10.0.0.2:0", "10.0.0", "ns:53", "[::1]:x", ""):
            (problem,) = self.problems(dns(port=1, resolvers=[wrong]))
            self.assertEqual(
                problem,
                f'services.s.discovery.dns.resolvers[0]: found "{wrong}"; '
                "allowed: an address such as 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:53",
            )

    def test_names(self) -> None:
        """A name is a host name."""
        for wrong in ("", "a b", "http://a", "a:80", "-a"):
            (problem,) = self.problems(dns(port=1, name=wrong))
            self.assertEqual(
                problem,
                f'services.s.discovery.dns.name: found "{wrong}"; '
                "allowed: a host name such as users.internal",
            )
        self.assert_problem(
            mapping(discovery={"dns": {"port": 1}}),
            "services.s.discovery.dns.name: is missing; "
            "allowed: a host name such as users.internal",
        )

    def test_paths(self) -> None:
        """A base path is as in a URL, in one spelling."""
        self.assertEqual(
            [dns_of(port=1, path=path).path for path in ("", "/", "/v1/")], ["", "", "/v1"]
        )
        for wrong in ("v1", ":80/x", "/a//b", "/..", "/a?b", "/a b", "@b/"):
            (problem,) = self.problems(dns(port=1, path=wrong))
            self.assertIn("allowed: a path such as /base, or nothing", problem)

    def test_ttl(self) -> None:
        """The TTL's bounds are a range."""
        self.assert_problem(
            dns(port=1, min_ttl="2m", timeout="2m"),
            'services.s.discovery.dns.timeout: found "2m"; '
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0, at most 60s",
        )
        self.assert_problem(
            dns(port=1, min_ttl="2m"),
            "services.s.discovery.dns.min_ttl: found 2m; allowed: at most max_ttl, which is 60s",
        )
