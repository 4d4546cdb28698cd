"""The section ``state``: memory, or Redis in one of many ways; and no password in any text."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import (
    Config,
    ConfigError,
    Leases,
    RedisTls,
    State,
    from_dict,
)
from rtgateway.config.redis_urls import split_redis_url
from tests.config.case import ConfigTestCase, TextTestCase

ALLOWED = "allowed: memory, or a URL such as redis://localhost:6379/0"
RESERVED = "a / ? # or @ in a password is percent-encoded"


def state(section: Any) -> State:
    """What this section says."""
    return from_dict({"state": section}).state


class Places(ConfigTestCase):
    """Where the state is."""

    def test_memory(self) -> None:
        """Memory is the default, and a word for it will do."""
        sections: tuple[Any, ...] = (None, {}, "memory", " memory ", {"url": "memory"})
        for section in sections:
            found = state(section)
            self.assertFalse(found.shared, section)
            self.assertEqual((found.label, found.host, found.port), ("memory", "", 0))
            self.assertEqual((found.unix, found.database, found.tls_of_redis), ("", 0, None))
            self.assertEqual((found.user, found.key), ("", b""))
        self.assertEqual(Config().state, State())

    def test_defaults(self) -> None:
        """50 ms for an answer; leases are on."""
        plain = State()
        self.assertEqual((plain.timeout, plain.connect_timeout, plain.heartbeat), (0.05, 1.0, 1.0))
        self.assertEqual((plain.prefix, plain.connections), ("rtgateway", 2))
        self.assertEqual(plain.max_keys, 1_000_000)
        self.assertEqual(plain.leases, Leases(enabled=True, duration=1.0, minimum_rate=2.0))

    def test_urls(self) -> None:
        """URLs in all their forms; user name and password are percent-decoded."""
        for text, place, user, key, label in (
            ("redis://h", ("h", 6379, "", 0, False), "", b"", "redis://h:6379/0"),
            ("redis://H:1/", ("h", 1, "", 0, False), "", b"", "redis://h:1/0"),
            ("redis://h/2", ("h", 6379, "", 2, False), "", b"", "redis://h:6379/2"),
            ("redis://h?db=3", ("h", 6379, "", 3, False), "", b"", "redis://h:6379/3"),
            ("rediss://[::1]:7", ("::1", 7, "", 0, True), "", b"", "rediss://[::1]:7/0"),
            (
                "redis://[fd00::1]",
                ("fd00::1", 6379, "", 0, False),
                "",
                b"",
                "redis://[fd00::1]:6379/0",
            ),
            ("redis://:p@h", ("h", 6379, "", 0, False), "", b"p", "redis://h:6379/0"),
            ("redis://u:p%40%2F:q@h", ("h", 6379, "", 0, False), "u", b"p@/:q", "redis://h:6379/0"),
            ("redis://u:p@q@h", ("h", 6379, "", 0, False), "u", b"p@q", "redis://h:6379/0"),
            ("REDISS://u:p@h", ("h", 6379, "", 0, True), "u", b"p", "rediss://h:6379/0"),
            ("unix:///a/b.sock", ("", 0, "/a/b.sock", 0, False), "", b"", "unix:///a/b.sock?db=0"),
            ("unix://:p@/a%20b?db=1", ("", 0, "/a b", 1, False), "", b"p", "unix:///a b?db=1"),
        ):
            found = state(text)
            self.assertTrue(found.shared, text)
            secure = found.tls_of_redis is not None
            parts = (found.host, found.port, found.unix, found.database, secure)
            self.assertEqual(parts, place, text)
            self.assertEqual((found.user, found.key, found.label), (user, key, label), text)
            self.assertEqual(state({"url": text}), found)

    def test_keys_beside_the_url(self) -> None:
        """Credentials and the database may be keys of their own; an empty password is none."""
        found = state({"url": "redis://h", "username": "u", "password": "p", "db": "4"})
        self.assertEqual((found.user, found.key, found.database), ("u", b"p", 4))
        found = state({"url": "redis://u@h", "password": "p"})
        self.assertEqual((found.user, found.key), ("u", b"p"))
        found = state({"url": "redis://:p@h", "password": "", "username": ""})
        self.assertEqual((found.user, found.key), ("", b"p"))
        file = self.temporary_file()
        file.write_text("from a file\n")
        found = state({"url": "redis://h", "password_file": str(file)})
        self.assertEqual(found.key, b"from a file")
        found = state({"url": "memory", "password": "p", "db": 3})
        self.assertFalse(found.shared)

    def test_tls(self) -> None:
        """``rediss`` is enough; how either side proves who it is can be said besides."""
        self.assertEqual(state("rediss://h").tls_of_redis, RedisTls())
        found = state({"url": "rediss://h", "tls": {"verify": False}}).tls_of_redis
        assert found is not None
        self.assertFalse(found.verify)
        self.assertIsNone(found.own)
        file = self.temporary_file()
        file.touch()
        both = {"certificate": str(file), "key": str(file)}
        found = state({"url": "rediss://h", "tls": both}).tls_of_redis
        assert found is not None
        self.assertEqual(found.own, (file, file))
        self.assertIsNone(state("rediss://h").tls_of_sentinels)
        for off in (False, "off", {"enabled": False}):
            self.assertIsNone(state({"url": "redis://h", "tls": off}).tls_of_redis)
            self.assertFalse(state({"tls": off}).shared)

    def test_tls_behind_sentinels(self) -> None:
        """It is a switch there; sentinels have the same unless they have their own."""
        file = self.temporary_file()
        file.touch()
        unverified, own = {"verify": False}, {"ca": str(file)}
        for tls, of_sentinels, redis, sentinels in (
            (None, None, None, None),
            (False, None, None, None),
            ("off", None, None, None),
            (True, None, RedisTls(), RedisTls()),
            ("on", None, RedisTls(), RedisTls()),
            ({}, None, RedisTls(), RedisTls()),
            (unverified, None, RedisTls(verify=False), RedisTls(verify=False)),
            (unverified, False, RedisTls(verify=False), None),
            (unverified, "off", RedisTls(verify=False), None),
            (unverified, True, RedisTls(verify=False), RedisTls()),
            (unverified, own, RedisTls(verify=False), RedisTls(ca=file)),
            (None, "on", None, RedisTls()),
            (None, own, None, RedisTls(ca=file)),
            (None, {**own, "enabled": False}, None, None),
            ({**unverified, "enabled": "off"}, None, None, None),
        ):
            section = {"nodes": "a", "tls": of_sentinels}
            found = state({"sentinel": section, "tls": tls})
            told = (found.tls_of_redis, found.tls_of_sentinels)
            self.assertEqual(told, (redis, sentinels), (tls, of_sentinels))

    def test_sentinel(self) -> None:
        """Sentinels have credentials of their own; those of the state are the master's."""
        nodes = ["a", "b:1", "[::1]:2", "10.0.0.1"]
        own = {"nodes": nodes, "username": "s", "password": "t"}
        found = state({"sentinel": own, "password": "p", "db": 2})
        assert found.sentinel is not None
        self.assertTrue(found.shared)
        self.assertEqual((found.host, found.user, found.key, found.database), ("", "", b"p", 2))
        self.assertEqual(
            found.sentinel.addresses, (("a", 26379), ("b", 1), ("::1", 2), ("10.0.0.1", 26379))
        )
        self.assertEqual(found.sentinel.master, "mymaster")
        self.assertEqual((found.sentinel.user, found.sentinel.key), ("s", b"t"))
        self.assertEqual(found.label, "mymaster at a, b:1, [::1]:2, 10.0.0.1")
        self.assertEqual(len(state({"sentinel": {"nodes": "a, b"}}).sentinel.addresses), 2)  # type: ignore[union-attr]

    def test_leases_off(self) -> None:
        """A switch will do for leases."""
        for off in ("off", False, {"enabled": False}):
            self.assertFalse(state({"leases": off}).leases.enabled, off)


class Refused(ConfigTestCase):
    """What is wrong, in words."""

    def test_urls(self) -> None:
        """Each mistake in a URL has its words, and nothing of the URL is repeated."""
        for text, words in (
            ("redis:hunter2", "not a URL with redis, rediss or unix"),
            ("http://:hunter2@h", "not a URL with redis, rediss or unix"),
            ("", "not a URL with redis, rediss or unix"),
            ("redis://:hun ter2@h", "not a URL with redis, rediss or unix"),
            ("redis://:hunter2@h/0#x", "not a URL with redis, rediss or unix"),
            ("redis://:hunter2@", f"no host, or no port from 1 to 65535; {RESERVED}"),
            ("redis://:hunter2@h:0", f"no host, or no port from 1 to 65535; {RESERVED}"),
            ("redis://:hunter2@h,i", f"no host, or no port from 1 to 65535; {RESERVED}"),
            ("redis://::1", f"no host, or no port from 1 to 65535; {RESERVED}"),
            ("redis://:hunter/2@h", RESERVED),
            ("redis://:hunter?2@h", f"no host, or no port from 1 to 65535; {RESERVED}"),
            ("redis://@h", "nothing in front of the @"),
            ("redis://:hunter2@h/x", "the database is no number from 0 to 9999"),
            ("redis://h/10000", "the database is no number from 0 to 9999"),
            ("redis://h?db=", "the database is no number from 0 to 9999"),
            (
                "redis://h/1?db=2",
                "only db may follow the question mark, and the database is there once",
            ),
            (
                "redis://h?password=hunter2",
                "only db may follow the question mark, and the database is there once",
            ),
            ("unix://run/redis.sock", "no path: three slashes, as in unix:///run/redis.sock"),
            ("unix:///", "no path: three slashes, as in unix:///run/redis.sock"),
            (f"unix:///{'x' * 107}", "a path of more than 107 bytes, or with a null byte"),
            ("unix:///a%00b", "a path of more than 107 bytes, or with a null byte"),
        ):
            self.assert_problem({"state": text}, f"state.url: {words}; {ALLOWED}")

    def test_one_place(self) -> None:
        """There is one place, and credentials belong to it."""
        self.assert_problem(
            {"state": {"url": "redis://h", "sentinel": {"nodes": "a"}}},
            "state: found url and sentinel; allowed: either of them, or neither",
        )
        self.assert_problem(
            {"state": {"username": "u", "password": "hunter2", "db": 1, "tls": True}},
            *(
                f"state.{key}: no Redis at all; allowed: url or sentinel, too"
                for key in ("username", "password", "db", "tls")
            ),
        )

    def test_said_twice(self) -> None:
        """What the URL says is not said again."""
        self.assert_problem(
            {"state": {"url": "redis://u:hunter2@h/1", "username": "u", "password": "p", "db": 1}},
            *(
                f"state.{key}: in the URL, too; allowed: one of them"
                for key in ("username", "password", "db")
            ),
        )

    def test_credentials(self) -> None:
        """A user has a password, and only one; a file holds one."""
        words = "a user name without a password; allowed: "
        self.assert_problem(
            {"state": {"url": "redis://h", "username": "u"}},
            f"state.username: {words}password or password_file, too",
        )
        self.assert_problem({"state": "redis://u@h"}, f"state.url: {words}a password, too")
        self.assert_problem(
            {"state": {"sentinel": {"nodes": "a", "username": "u"}}},
            f"state.sentinel.username: {words}password or password_file, too",
        )
        file = self.temporary_file()
        file.write_text("p")
        self.assert_problem(
            {"state": {"url": "redis://h", "password": "p", "password_file": str(file)}},
            "state: found password and password_file; allowed: either of them, or none",
        )
        file.write_text("\n")
        self.assert_problem(
            {"state": {"url": "redis://h", "password_file": str(file)}},
            "state.password_file: found a secret of 0 characters; allowed: a secret, not empty",
        )

    def test_tls(self) -> None:
        """A URL without TLS is not verified; a certificate has a key."""
        self.assert_problem(
            {"state": {"url": "redis://h", "tls": {}}},
            "state.tls: no TLS, as the URL does not begin with rediss; allowed: rediss://",
        )
        for off in (False, "off", {"enabled": "off"}):
            words = "state.tls: off, though the URL begins with rediss; allowed: redis://"
            self.assert_problem({"state": {"url": "rediss://h", "tls": off}}, words)
            other = "state.connections: found 0; allowed: a whole number from 1 to 64"
            self.assert_problem(
                {"state": {"url": "rediss://h", "tls": off, "connections": 0}}, other, words
            )
        file = self.temporary_file()
        file.touch()
        for one in ("certificate", "key"):
            words = f"tls.{one}: {one} alone; allowed: certificate and key, or neither"
            self.assert_problem(
                {"state": {"url": "rediss://h", "tls": {one: str(file)}}}, f"state.{words}"
            )
            self.assert_problem(
                {"state": {"sentinel": {"nodes": "a", "tls": {one: str(file)}}}},
                f"state.sentinel.{words}",
            )

    def test_sentinel(self) -> None:
        """Nodes are addresses, at least one; the master has a name that Redis takes."""
        node = "an address such as 10.0.0.7:26379 or [fd00::7]:26379"
        self.assert_problem(
            {"state": {"sentinel": {"nodes": ["a b", "::1"], "master": "a b"}}},
            f'state.sentinel.nodes[0]: found "a b"; allowed: {node}',
            f'state.sentinel.nodes[1]: found "::1"; allowed: {node}',
            'state.sentinel.master: found "a b"; allowed: 1 to 128 letters, digits and . _ -',
        )
        self.assert_problem(
            {"state": {"sentinel": {"nodes": []}}},
            f"state.sentinel.nodes: found an empty list; allowed: a list; each item {node}, "
            "at least one",
        )

    def test_numbers(self) -> None:
        """Bounds are told as everywhere."""
        self.assert_problem(
            {
                "state": {
                    "prefix": "a{b}",
                    "timeout": "11s",
                    "connections": 0,
                    "heartbeat": "50ms",
                    "max_keys": 10,
                    "leases": {"duration": "10ms", "minimum_rate": 0},
                }
            },
            'state.prefix: found "a{b}"; allowed: 1 to 64 letters, digits and . _ : -',
            'state.timeout: found "11s"; allowed: a duration such as 250ms, 30s, 5m or 1h, '
            "more than 0, at most 10s",
            "state.connections: found 0; allowed: a whole number from 1 to 64",
            "state.max_keys: found 10; allowed: a whole number from 1000 to 100000000",
            "state.leases.minimum_rate: found 0; allowed: a number from 1 to 1000000",
        )
        self.assert_problem(
            {"state": {"heartbeat": "50ms", "leases": {"duration": "10ms"}}},
            "state.leases.duration: found 10ms; allowed: at least 100ms",
        )
        self.assert_problem(
            {"state": {"heartbeat": "50ms"}}, "state.heartbeat: found 50ms; allowed: at least 100ms"
        )
        self.assert_problem(
            {"state": {"leases": {"duration": "2s"}}},
            'state.leases.duration: found "2s"; allowed: a duration such as 250ms, 30s, 5m or 1h, '
            "more than 0, at most 1s",
        )

    def test_wrong_shapes(self) -> None:
        """A secret in the wrong place is not repeated, whatever its type."""
        (problem,) = self.problems({"state": ["redis://:hunter2@h"]})
        self.assertRegex(problem, "^state: found a list; allowed: a mapping with url, ")
        self.assert_problem(
            {"state": {"url": ["hunter2"], "password": 5}},
            f"state.url: found something else; {ALLOWED}",
            "state.password: found something else; allowed: a password",
        )


class Secrets(TextTestCase):
    """Passwords are in no text."""

    def test_from_the_environment(self) -> None:
        """Neither in a problem with its line, nor in what is printed."""
        text = """
            log_level: info
            state:
              url: ${URL}
              timeout: ${T:-50ms}
            """
        allowed = ALLOWED.removeprefix("allowed: ")
        self.assert_problems(
            text,
            f"gateway:3: state.url: {RESERVED}; allowed: {allowed}",
            URL="redis://:hunter/2@h",
        )
        config = self.parse(text, URL="redis://:hunter2@h")
        self.assertEqual(config.state.key, b"hunter2")
        for shown in (repr(config), str(config.state), repr(config.state._parts)):
            self.assertNotIn("hunter2", shown)
        self.assertNotIn("hunter2", config.model_dump_json())

    def test_unset(self) -> None:
        """A variable that is not there is told; ``memory`` is a good default."""
        self.assertEqual(self.parse("state: ${REDIS_URL:-memory}").state.label, "memory")
        (problem,) = self.problems("state: ${REDIS_URL}")
        self.assertIn("REDIS_URL is not set", str(problem))
        self.problems("state: ${REDIS_URL}", REDIS_URL="")


class Lines(TextTestCase):
    """Problems of files name key and line."""

    def test_certificates(self) -> None:
        """A file that is not there, and one without its other half."""
        text = """
            state:
              sentinel:
                nodes: a
                tls:
                  ca: /nowhere/ca.pem
                  key: {file}
              tls:
                key: {file}
            """
        problems = self.problems(text.replace("{file}", __file__))
        self.assertEqual(
            [str(each).partition(";")[0] for each in problems],
            [
                "gateway:5: state.sentinel.tls.ca: /nowhere/ca.pem does not exist",
                "gateway:6: state.sentinel.tls.key: key alone",
                "gateway:8: state.tls.key: key alone",
            ],
        )


class AnyUrl(SynchronousTestCase):
    """Random URLs."""

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(["redis", "rediss", "unix", "http", ""]),
        st.text(alphabet="hx2/:@?#%[] \n", max_size=12),
        st.text(alphabet="a1:/?=db[]@#.", max_size=12),
    )
    def test_never_told(self, scheme: str, mess: str, rest: str) -> None:
        """A URL is taken, or refused without a word of the password."""
        text = f"{scheme}://:hunter{mess}secret@{rest}"
        try:
            config = from_dict({"state": text})
        except ConfigError as error:
            self.assertNotIn("hunter", str(error))
            self.assertNotIn("secret", str(error))
        else:
            self.assertNotIn("hunter", repr(config))
            self.assertNotIn("hunter", config.state.label)
            self.assertIn(b"hunter", config.state.key)

    @settings(max_examples=100, deadline=None)
    @given(st.text(min_size=1, max_size=20))
    def test_password_round_trip(self, password: str) -> None:
        """Percent-encoded, any password arrives."""
        parts = split_redis_url(f"redis://u:{quote(password, safe='')}@h:1/2")
        self.assertEqual(parts.password, SecretStr(password))
        self.assertEqual((parts.user, parts.host, parts.port, parts.db), ("u", "h", 1, 2))
