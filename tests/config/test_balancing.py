"""How instances are picked: strategies, hash keys, the sticky cookie and its secret."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from rtgateway.config import Balance, Config, Instance, from_dict
from tests.config.case import ConfigTestCase

SECRET = "sixteen or more characters"


def service(**balance: Any) -> dict[str, Any]:
    """A configuration of one service."""
    return {"services": {"s": {"instances": "http://a", "balance": balance}}}


class Strategies(ConfigTestCase):
    """``balance``."""

    def test_default(self) -> None:
        """Nobody has to choose: the least loaded instance is asked."""
        balance = from_dict({"services": {"s": "http://a"}}).services["s"].balance
        self.assertEqual(balance, Balance())
        self.assertEqual(balance.strategy, "least_load")

    def test_bare_name(self) -> None:
        """The name of a strategy is enough."""
        for name in (
            "least_load",
            "round_robin",
            "random",
            "least_connections",
            "p2c",
            "consistent_hash",
            "sticky",
        ):
            config = from_dict({"services": {"s": {"instances": "http://a", "balance": name}}})
            self.assertEqual(config.services["s"].balance, Balance(strategy=name))

    def test_unknown(self) -> None:
        """An unknown strategy is told with all that there are, in either form."""
        words = (
            "allowed: one of least_load, round_robin, random, least_connections, p2c, "
            "consistent_hash, sticky"
        )
        for balance in ("fastest", {"strategy": "fastest"}):
            self.assert_problem(
                {"services": {"s": {"instances": "http://a", "balance": balance}}},
                f'services.s.balance.strategy: found "fastest"; {words}',
            )

    def test_hash(self) -> None:
        """A hash key is a field, a cookie, the path or the client's address."""
        for text, key in (
            ("client_ip", ("client_ip", "")),
            ("path", ("path", "")),
            ("header:X-User", ("header", "X-User")),
            ("cookie:session", ("cookie", "session")),
        ):
            balance = from_dict(service(hash=text)).services["s"].balance
            self.assertEqual(balance.hash_by, key)
        for text in ("", "header", "header:", "cookie:a b", "path:", "client_ip:x", "user", "a:b"):
            (problem,) = self.problems(service(hash=text))
            self.assertEqual(
                problem,
                f'services.s.balance.hash: found "{text}"; '
                "allowed: client_ip, path, header:NAME or cookie:NAME",
            )

    def test_bound(self) -> None:
        """The bound is off, or leaves room for the average."""
        for bound in (0, 1, 1.25, "100"):
            self.assertEqual(
                from_dict(service(bound=bound)).services["s"].balance.bound, float(bound)
            )
        for bound, shown in ((0.5, "0.5"), (101, "101"), (-1, "-1"), (True, "true"), ("x", '"x"')):
            self.assert_problem(
                service(bound=bound),
                f"services.s.balance.bound: found {shown}; allowed: 0, or a number from 1 to 100",
            )

    def test_bounds(self) -> None:
        """Times and shares have bounds."""
        self.assert_problem(
            service(slow_start="2h", panic_threshold=1.5, cookie_max_age=-1),
            "services.s.balance.cookie_max_age: found -1; "
            "allowed: a duration such as 250ms, 30s, 5m or 1h",
            'services.s.balance.slow_start: found "2h"; '
            "allowed: a duration such as 250ms, 30s, 5m or 1h, at most 1h",
            "services.s.balance.panic_threshold: found 1.5; allowed: a number from 0 to 1",
        )


class Sticky(ConfigTestCase):
    """The cookie and what signs it."""

    def test_cookie(self) -> None:
        """The cookie's name is one that browsers take."""
        balance = from_dict(service(cookie="at")).services["s"].balance
        self.assertEqual(balance.cookie, "at")
        for name in ("", "a b", "a=b", "a;b", "é", "x" * 129):
            (problem,) = self.problems(service(cookie=name))
            self.assertTrue(problem.startswith("services.s.balance.cookie: found "), problem)
            self.assertIn("allowed: a name of letters, digits and characters such as", problem)

    def test_secret(self) -> None:
        """The secret comes from the file itself, from another one, or is made up at the start."""
        self.assertIsNone(Balance().secret_bytes)
        balance = from_dict(service(secret=SECRET)).services["s"].balance
        self.assertEqual(balance.secret_bytes, SECRET.encode())
        file = self.temporary_file()
        file.write_text(SECRET + "\n")
        balance = from_dict(service(secret_file=str(file))).services["s"].balance
        self.assertEqual(balance.secret_bytes, SECRET.encode())
        self.assert_problem(
            service(secret_file=str(file), secret=SECRET),
            "services.s.balance: found secret and secret_file; allowed: either of them, or none",
        )

    def test_short(self) -> None:
        """A secret that can be guessed is refused, wherever it is."""
        words = "found a secret of 5 characters; allowed: a secret of at least 16 characters"
        self.assert_problem(service(secret="short"), f"services.s.balance.secret: {words}")
        file = self.temporary_file()
        file.write_text("short")
        self.assert_problem(
            service(secret_file=str(file)), f"services.s.balance.secret_file: {words}"
        )

    def test_not_shown(self) -> None:
        """Nobody sees the secret: not in problems, not in the configuration's own text."""
        for wrong in ({"secret": "hunter2"}, {"secret": ["hunter2"]}, ["hunter2"]):
            mapping = {"services": {"s": {"instances": "http://a", "balance": wrong}}}
            self.assertNotIn("hunter2", "\n".join(self.problems(mapping)))
        with self.assertRaises(ValidationError) as caught:
            Config.model_validate(service(secret="hunter2"))
        self.assertNotIn("hunter2", str(caught.exception))
        config = from_dict(service(secret=SECRET))
        self.assertNotIn(SECRET, repr(config))
        self.assertNotIn(SECRET, config.model_dump_json())

    def test_changed_secret_file(self) -> None:
        """Two configurations that differ in the secret file's content are not equal."""
        file = self.temporary_file()
        file.write_text(SECRET)
        before = Balance.model_validate({"secret_file": str(file)})
        file.write_text(SECRET + "!")
        self.assertNotEqual(Balance.model_validate({"secret_file": str(file)}), before)


class Instances(ConfigTestCase):
    """What an instance is called, and when it is asked."""

    def test_id(self) -> None:
        """An instance's short name has its port, brackets around IPv6, and its base path."""
        for url, name in (
            ("http://A", "a:80"),
            ("https://a/", "a:443"),
            ("http://10.0.0.1:3001/v1/", "10.0.0.1:3001/v1"),
            ("http://[0:0::1]:81/x", "[::1]:81/x"),
        ):
            self.assertEqual(Instance(url=url).id, name)

    def test_same_id(self) -> None:
        """One host and port is one instance, whatever is spoken there."""
        self.assert_problem(
            {"services": {"s": ["http://a:443", "http://b", "https://a"]}},
            "services.s.instances[2].url: the same instance as instances[0]; "
            "allowed: each instance once",
        )

    def test_place_of_the_same(self) -> None:
        """The later one of two is pointed at, also behind one that is wrong for other reasons."""
        self.assert_problem(
            {"services": {"s": {"instances": ["?", *({"url": "http://a"},) * 2]}}},
            'services.s.instances[0].url: found "?"; '
            "allowed: a URL such as http://localhost:3001, without a query and a fragment",
        )

    def test_backup(self) -> None:
        """Instances may be kept for bad times."""
        instances = (
            from_dict({"services": {"s": ["http://a", {"url": "http://b", "backup": True}]}})
            .services["s"]
            .instances
        )
        self.assertEqual([instance.backup for instance in instances], [False, True])
