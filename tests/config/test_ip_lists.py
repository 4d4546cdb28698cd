"""The sections ``ip_lists`` and ``penalties``."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Config, IpLists, Penalties, from_dict, load
from rtgateway.config.values import network_text
from tests.config.case import ConfigTestCase, TextTestCase

NETWORK = "an address or network such as 10.0.0.0/8 or fd00::/8"


class Lists(ConfigTestCase):
    """Who is let in, and who is not."""

    def lists(self, section: Any) -> IpLists:
        """What this section says."""
        return from_dict({"ip_lists": section}).ip_lists

    def file(self, content: str | bytes) -> Path:
        """A file with this in it."""
        path = self.temporary_file()
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def test_defaults(self) -> None:
        """Nobody is on any list."""
        plain = Config().ip_lists
        self.assertEqual(plain, IpLists())
        self.assertEqual((plain.allowed, plain.denied), ((), ()))
        self.assertEqual((plain.only_allowed, plain.deny_status), (False, 403))

    def test_lists(self) -> None:
        """Networks are normalised, each once; one text with commas will do."""
        found = self.lists(
            {"allow": "10.0.0.0/8, 10.0.0.0/8", "deny": ["2001:DB8::/32", "192.0.2.7"]}
        )
        self.assertEqual(found.allowed, ("10.0.0.0/8",))
        self.assertEqual(found.denied, ("2001:db8::/32", "192.0.2.7/32"))

    def test_status(self) -> None:
        """403 or 429, as text, too."""
        for status in (429, "429"):
            self.assertEqual(self.lists({"deny_status": status}).deny_status, 429)
        self.assert_problem(
            {"ip_lists": {"deny_status": 404}},
            "ip_lists.deny_status: found 404; allowed: one of 403, 429",
        )

    def test_files(self) -> None:
        """One on each line, with comments; behind what is listed, and each once."""
        path = self.file(
            "# our offices\n10.0.0.0/8 # Berlin\n\n  192.0.2.7\r\n2001:db8::/32\n10.0.0.0/8"
        )
        found = self.lists({"allow": "192.0.2.8, 10.0.0.0/8", "allow_file": str(path)})
        self.assertEqual(
            found.allowed, ("192.0.2.8/32", "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")
        )
        self.assertEqual(found.allow, ("192.0.2.8/32", "10.0.0.0/8"))
        self.assertEqual(self.lists({"deny_file": str(path)}).denied[0], "10.0.0.0/8")
        empty = self.file(b"")
        self.assertEqual(self.lists({"deny_file": str(empty)}).denied, ())

    def test_wrong_lines(self) -> None:
        """The first wrong line is told by its number; what it says is not, it may be a secret."""
        path = self.file("10.0.0.0/8\n\nhunter2\n")
        self.assert_problem(
            {"ip_lists": {"deny_file": str(path)}},
            f"ip_lists.deny_file: {path}, line 3, is no network; allowed: {NETWORK}",
        )
        path = self.file("10.0.0.1/8\n")
        self.assert_problem(
            {"ip_lists": {"allow_file": str(path)}},
            f"ip_lists.allow_file: {path}, line 1, is no network; "
            "allowed: a network without host bits; did you mean 10.0.0.0/8?",
        )
        path = self.file(b"\xff\xfe\x00")
        self.assert_problem(
            {"ip_lists": {"allow_file": str(path)}},
            f"ip_lists.allow_file: {path}, line 1, is no network; allowed: {NETWORK}",
        )

    def test_no_file(self) -> None:
        """A file that is not there is told as everywhere."""
        self.assert_problem(
            {"ip_lists": {"deny_file": "/nowhere/denied.txt"}},
            "ip_lists.deny_file: /nowhere/denied.txt does not exist; "
            "allowed: a file that can be read",
        )

    def test_thousands(self) -> None:
        """Up to 100,000 in a list; more are too many, and so are files of any size."""
        many = "\n".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_000))
        path = self.file(many)
        self.assertEqual(len(self.lists({"deny_file": str(path)}).denied), 100_000)
        path = self.file(many + "\n192.0.2.1")
        self.assert_problem(
            {"ip_lists": {"deny_file": str(path)}},
            f"ip_lists.deny_file: {path} has 100001 networks; allowed: at most 100000",
        )
        path = self.file(b"#" * ((8 << 20) + 1))
        self.assert_problem(
            {"ip_lists": {"deny_file": str(path)}},
            f"ip_lists.deny_file: {path} is too large; allowed: at most 8MiB",
        )
        self.assert_problem(
            {"ip_lists": {"deny": ["10.0.0.0/8"] * 100_001}},
            "ip_lists.deny: found 100001 networks; allowed: at most 100000",
        )

    def test_somebody(self) -> None:
        """A gateway that lets nobody in is a mistake."""
        self.assert_problem(
            {"ip_lists": {"only_allowed": True, "deny": "10.0.0.0/8"}},
            "ip_lists.only_allowed: nobody could come in: there is neither allow nor allow_file; "
            "allowed: at least one network to let in",
        )
        self.assertTrue(self.lists({"only_allowed": True, "allow": "::1"}).only_allowed)
        path = self.file("::1")
        self.assertTrue(self.lists({"only_allowed": True, "allow_file": str(path)}).only_allowed)

    def test_wrong_networks(self) -> None:
        """Each has its place and its words."""
        self.assert_problem(
            {"ip_lists": {"allow": ["10.0.0.1/8", "a", 5, "fe80::1%eth0"]}},
            'ip_lists.allow[0]: found "10.0.0.1/8"; '
            "allowed: a network without host bits; did you mean 10.0.0.0/8?",
            f'ip_lists.allow[1]: found "a"; allowed: {NETWORK}',
            f"ip_lists.allow[2]: found 5; allowed: {NETWORK}",
            f'ip_lists.allow[3]: found "fe80::1%eth0"; allowed: {NETWORK}',
        )


class OneNetwork(SynchronousTestCase):
    """The text of one network."""

    @settings(max_examples=300, deadline=None)
    @given(
        st.one_of(
            st.ip_addresses().map(str),
            st.tuples(st.ip_addresses().map(str), st.integers(0, 129)).map("{0[0]}/{0[1]}".format),
            st.tuples(
                st.sampled_from(["10.0.0.0", "::", "::ffff:1.2.3.4"]), st.integers(0, 129)
            ).map("{0[0]}/{0[1]}".format),
            st.text(alphabet="0123456789abc.:/% ", max_size=12),
        )
    )
    def test_as_ipaddress_says(self, text: str) -> None:
        """The quick way and the library agree on every text."""
        try:
            expected = str(ip_network(text.strip()))
        except ValueError:
            expected = ""
        try:
            found = network_text(text)
        except PydanticCustomError:
            found = ""
        self.assertEqual(found, "" if "%" in expected else expected)

    def test_odd_spellings(self) -> None:
        """Masks, zeros and capitals; IPv4-mapped addresses stay IPv6."""
        for text, expected in (
            ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            ("10.0.0.0/08", "10.0.0.0/8"),
            ("2001:0DB8::0", "2001:db8::/128"),
            ("::ffff:1.2.3.4", str(ip_network("::ffff:1.2.3.4"))),
            (" ::1 ", "::1/128"),
        ):
            self.assertEqual(network_text(text), expected, text)
        for text in ("10.0.0.0/", "10.0.0.0/33", "010.0.0.1", "1.2.3", "::1/", "", "/8", "a\0b"):
            self.assertRaises(PydanticCustomError, network_text, text)


class Files(TextTestCase):
    """Files beside the configuration."""

    def test_relative(self) -> None:
        """Paths start from the configuration; problems have the line of the key."""
        with TemporaryDirectory() as name:
            directory = Path(name)
            (directory / "denied.txt").write_text("192.0.2.0/24")
            config = directory / "gateway.yaml"
            config.write_text("ip_lists:\n  deny_file: denied.txt\n")
            self.assertEqual(load(config, env={}).ip_lists.denied, ("192.0.2.0/24",))


class Bans(ConfigTestCase):
    """``penalties``."""

    def penalties(self, section: Any) -> Penalties:
        """What this section says."""
        return from_dict({"penalties": section}).penalties

    def test_off(self) -> None:
        """Off unless the section is there."""
        for section in (None, "off", False, {"enabled": "off"}):
            self.assertFalse(self.penalties(section).enabled, section)
        self.assertFalse(Config().penalties.enabled)

    def test_on(self) -> None:
        """A switch will do; so will any key."""
        for section in ("on", True, {}, {"enabled": True}):
            self.assertEqual(self.penalties(section), Penalties(), section)
        plain = Penalties()
        self.assertEqual((plain.refusals, plain.window, plain.duration), (10, 60.0, 300.0))
        self.assertEqual((plain.factor, plain.max_duration, plain.forget), (2.0, 86400.0, 86400.0))
        self.assertEqual(plain.by, "client")
        found = self.penalties({"refusals": 3, "by": "ip", "forget": 0})
        self.assertEqual((found.enabled, found.refusals, found.by), (True, 3, "ip"))

    def test_refused(self) -> None:
        """Bans grow; they do not shrink."""
        self.assert_problem(
            {"penalties": {"duration": "2d"}},
            "penalties.duration: found 2d; allowed: at most max_duration, which is 24h",
        )
        self.assert_problem(
            {"penalties": {"refusals": 0, "factor": 0.5, "by": "subject", "window": 0}},
            "penalties.refusals: found 0; allowed: a whole number from 1 to 1000000",
            "penalties.window: found 0; allowed: a duration such as 250ms, 30s, 5m or 1h, "
            "more than 0, at most 24h",
            "penalties.factor: found 0.5; allowed: a number from 1 to 100",
            'penalties.by: found "subject"; allowed: one of client, ip',
        )
