"""The models: defaults, shorthands, what is refused, and what nobody may see."""

from __future__ import annotations

import os
from ipaddress import IPv6Network, ip_network
from pathlib import Path

from pydantic import ValidationError

from rtgateway.config import (
    Certificate,
    Config,
    Instance,
    Jwt,
    Listener,
    Route,
    Service,
    from_dict,
)
from tests.config.case import ConfigTestCase

SECRET = "correct horse battery staple, twice"


class Defaults(ConfigTestCase):
    """A configuration nobody wrote."""

    def test_empty(self) -> None:
        """An empty configuration listens on port 8080 with safe limits."""
        config = from_dict({})
        self.assertEqual(config, Config())
        self.assertEqual(config.listeners[0].address, ("0.0.0.0", 8080))
        self.assertEqual(config.limits.body, 10 << 20)
        self.assertEqual(config.timeouts.head, 10.0)
        self.assertEqual(config.trusted_proxies, ())
        self.assertFalse(config.admin.open)
        self.assertTrue(config.builtin_routes)

    def test_empty_values(self) -> None:
        """A section whose lines are all commented out means its defaults."""
        self.assertEqual(from_dict({"limits": None, "services": None, "log_level": None}), Config())

    def test_frozen(self) -> None:
        """A configuration can't be changed once it is checked."""
        config = Config()
        with self.assertRaises(ValidationError):
            config.log_level = "debug"


class Paths(ConfigTestCase):
    """Files, wherever one is asked for."""

    def test_no_path_at_all(self) -> None:
        """A number or a list is no path, however deep in the document it stands."""
        service = {"instances": ["http://a"], "tls": {"ca": 5}, "balance": {"secret_file": True}}
        self.assert_problem(
            {"access_log": {"file": []}, "services": {"a": service}},
            "services.a.balance.secret_file: found true; allowed: a file that can be read",
            "services.a.tls.ca: found 5; allowed: a file that can be read",
            "access_log.file: found an empty list; allowed: a path in an existing directory",
        )


class Listeners(ConfigTestCase):
    """Where clients connect."""

    def test_addresses(self) -> None:
        """Every spelling of an address gives host and port, IPv6 without brackets."""
        for tcp, address in (
            ("127.0.0.1:80", ("127.0.0.1", 80)),
            (":8080", ("0.0.0.0", 8080)),
            ("*:1", ("0.0.0.0", 1)),
            ("[::1]:8443", ("::1", 8443)),
            ("localhost:0", ("localhost", 0)),
            ("8080", ("0.0.0.0", 8080)),
            (9090, ("0.0.0.0", 9090)),
        ):
            config = from_dict({"listeners": [{"tcp": tcp}]})
            self.assertEqual(config.listeners[0].address, address)

    def test_bare_address(self) -> None:
        """A listener may be just its address."""
        config = from_dict({"listeners": [":81", 82]})
        self.assertEqual([item.address[1] for item in config.listeners], [81, 82])

    def test_bad_addresses(self) -> None:
        """What is not an address is shown with examples of what is."""
        for tcp in ("localhost", "a b:80", ":65536", "[::g]:80", "::1:", True, "host:-1"):
            (problem,) = self.problems({"listeners": [{"tcp": tcp}]})
            self.assertTrue(problem.startswith("listeners[0].tcp: found "), problem)
            self.assertIn("allowed: an address such as 0.0.0.0:8080", problem)

    def test_exactly_one_socket(self) -> None:
        """A listener is one socket of one kind."""
        self.assert_problem(
            {"listeners": [{"backlog": 5}, {"tcp": ":1", "unix": "/tmp/x"}]},
            "listeners[0]: found none; allowed: one of tcp, unix, systemd",
            "listeners[1]: found tcp and unix; allowed: one of tcp, unix, systemd",
        )

    def test_no_listener(self) -> None:
        """A gateway without a listener is a mistake."""
        self.assert_problem(
            {"listeners": []},
            "listeners: found an empty list; allowed: a list of listeners, at least one",
        )

    def test_same_socket(self) -> None:
        """Two listeners can't share an address; port 0 is never the same."""
        self.assert_problem(
            {"listeners": [":80", "0.0.0.0:80"]}, "listeners[1]: the same socket as listeners[0]"
        )
        self.assertEqual(len(from_dict({"listeners": [":0", ":0"]}).listeners), 2)

    def test_unix_and_systemd(self) -> None:
        """Unix sockets have octal permissions; inherited sockets a number or a name."""
        config = from_dict(
            {
                "listeners": [
                    {"unix": "/tmp/a.sock", "mode": "666"},
                    {"systemd": "1"},
                    {"systemd": "http"},
                ]
            }
        )
        unix, number, name = config.listeners
        self.assertEqual((unix.mode, unix.unix), ("0666", Path("/tmp/a.sock")))
        self.assertEqual((number.systemd, name.systemd), (1, "http"))
        self.assertEqual(name.label, "systemd:http")
        with self.assertRaises(ValueError):
            _ = unix.address
        (problem,) = self.problems({"listeners": [{"systemd": "a:b"}]})
        self.assertIn("allowed: the number or the name of an inherited socket", problem)
        for mode in ("999", "1777", "rw", ""):
            (problem,) = self.problems({"listeners": [{"unix": "/tmp/a", "mode": mode}]})
            self.assertIn('allowed: an octal file mode such as "0660"', problem)

    def test_certificates(self) -> None:
        """Certificates are files that exist; names may have a wildcard in front."""
        file = self.temporary_file()
        file.write_text("PEM")
        entry = {"certificate": str(file), "key": str(file), "names": "a.example, *.B.example"}
        config = from_dict(
            {"listeners": [{"tcp": ":1", "tls": {"certificates": [entry], "min_version": 1.3}}]}
        )
        tls = config.listeners[0].tls
        assert tls is not None
        self.assertEqual(tls.min_version, "1.3")
        self.assertEqual(tls.certificates[0].names, ("a.example", "*.b.example"))
        self.assertTrue(tls.certificates[0].certificate.is_absolute())
        missing = {"certificate": str(file), "key": "/nowhere/key.pem", "names": ["a.*"]}
        problems = self.problems({"listeners": [{"tcp": ":1", "tls": {"certificates": [missing]}}]})
        self.assertEqual(
            problems,
            [
                "listeners[0].tls.certificates[0].key: /nowhere/key.pem does not exist; "
                "allowed: a file that can be read",
                'listeners[0].tls.certificates[0].names[0]: found "a.*"; '
                "allowed: a host name such as api.example.com or *.example.com",
            ],
        )


class Services(ConfigTestCase):
    """What the gateway stands in front of."""

    def test_shorthands(self) -> None:
        """One URL, a list of URLs, and the long form mean the same."""
        url = "http://localhost:3001"
        expected = Service(instances=(Instance(url=url),))
        for short in (url, [url], {"instances": url}, {"instances": [{"url": url}]}):
            self.assertEqual(from_dict({"services": {"users": short}}).services["users"], expected)

    def test_url_parts(self) -> None:
        """A URL is taken apart once, in one spelling."""
        for url, parts in (
            ("http://LOCALHOST", ("http", "localhost", 80, "", "http://localhost")),
            ("https://a.example:443/", ("https", "a.example", 443, "", "https://a.example")),
            ("http://[::1]:81/x/y/", ("http", "::1", 81, "/x/y", "http://[::1]:81/x/y")),
            ("HTTP://10.0.0.1:80/%41", ("http", "10.0.0.1", 80, "/%41", "http://10.0.0.1/%41")),
            ("ws://a.example/x", ("http", "a.example", 80, "/x", "http://a.example/x")),
            ("WSS://[::1]", ("https", "::1", 443, "", "https://[::1]")),
        ):
            instance = Instance(url=url)
            found = (instance.scheme, instance.host, instance.port, instance.base_path)
            self.assertEqual((*found, instance.label), parts)
        self.assertEqual(Instance(url="http://[::1]:81/x").authority, "[::1]:81")
        self.assertEqual(Instance(url="wss://a"), Instance(url="https://a"))

    def test_bad_urls(self) -> None:
        """What is not a base URL is refused, with an example of one."""
        for url in (
            "localhost:3001",
            "ftp://a",
            "ws://a b",
            "wss:a",
            "http://",
            "http://a:0",
            "http://a:99999",
            "http://a b",
            "http://a/\r\nx",
            "http://a?x=1",
            "http://a#x",
            "http://a/../b",
            "http://a/%2e%2E/b",
            "http://a//b",
            "http://[::g]",
            "http://[1::2::3]",
            "http://user:s3cret@a",
            "",
        ):
            (problem,) = self.problems({"services": {"users": url}})
            self.assertTrue(problem.startswith("services.users.instances[0].url: found "), problem)
            self.assertIn("allowed: a URL such as http://localhost:3001", problem)
            self.assertNotIn("s3cret", problem)

    def test_names(self) -> None:
        """A service name is safe in a path."""
        for name in ("a/b", "", "..", "x" * 65, "a b"):
            (problem,) = self.problems({"services": {name: "http://a"}})
            self.assertIn("allowed: names of 1 to 64 letters, digits and . _ ~ -", problem)
        self.assertIn("a.b~c_d-1", from_dict({"services": {"a.b~c_d-1": "http://a"}}).services)

    def test_instances(self) -> None:
        """There is an instance, each is there once, and one of them takes requests."""
        self.assert_problem(
            {
                "services": {
                    "none": [],
                    "twice": ["http://a", "ws://A:80/"],
                    "idle": [{"url": "http://a", "weight": 0}],
                    "lost": {},
                }
            },
            "services.none.instances: no instance; allowed: at least one, or discovery",
            "services.twice.instances[1].url: the same instance as instances[0]; "
            "allowed: each instance once",
            "services.idle.instances: every instance has weight 0; allowed: one above 0",
            "services.lost.instances: no instance; allowed: at least one, or discovery",
        )

    def test_bounds(self) -> None:
        """Bounds are told in words and units."""
        self.assert_problem(
            {
                "services": {"a": {"instances": "http://a", "pool": {"connections": 0}}},
                "timeouts": {"connect": 0, "head": "1y"},
                "limits": {"request_line": "1B"},
                "connections": {"total": 1.5, "per_ip": True},
            },
            "services.a.pool.connections: found 0; allowed: a whole number from 1 to 65535",
            'limits.request_line: found "1B"; allowed: a size such as 512, 64KiB or 10MiB, '
            "from 128 to 1MiB",
            "timeouts.connect: found 0; "
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0",
            'timeouts.head: found "1y"; '
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0",
            "connections.total: found 1.5; allowed: a whole number from 1 to 1000000",
            "connections.per_ip: found true; allowed: a whole number from 1 to 1000000",
        )


class Routes(ConfigTestCase):
    """Which requests go where."""

    def test_paths(self) -> None:
        """Prefixes and templates are taken as they are."""
        for path in ("/", "/v1", "/v1/", "/users/{id}", "/users/{id}/*", "/*", "/a%20b/{x}/c"):
            self.assertEqual(Route(path=path, service="s").path, path)

    def test_bad_paths(self) -> None:
        """What could never match is refused."""
        for path in (
            "",
            "v1",
            "/a//b",
            "/a/./b",
            "/a/%2e%2e",
            "/a/*/b",
            "/a*",
            "/{id",
            "/x{id}",
            "/{1}",
            "/{id}/{id}",
            "/a?b",
            "/a b",
            "/a/é",
            "/%zz",
        ):
            problems = self.problems({"routes": [{"path": path, "service": "s"}]})
            self.assertTrue(problems[0].startswith("routes[0].path: "), problems)
            self.assertIn("allowed: a path such as /v1, /users/{id} or /users/{id}/*", problems[0])

    def test_methods(self) -> None:
        """Methods are capitals, one or several; CONNECT is not for a reverse proxy."""
        base = {"services": {"s": "http://a"}}
        config = from_dict(
            {**base, "routes": [{"path": "/", "service": "s", "methods": "GET,PUT"}]}
        )
        self.assertEqual(config.routes[0].methods, ("GET", "PUT"))
        self.assert_problem(
            {**base, "routes": [{"path": "/", "service": "s", "methods": ["get", "CONNECT"]}]},
            'routes[0].methods[0]: found "get"; allowed: a method in capitals such as GET or POST',
            "routes[0].methods[1]: CONNECT is never passed on; "
            "allowed: a method in capitals such as GET or POST",
        )

    def test_unknown_service(self) -> None:
        """A route names a service that is there; also told when something else is wrong, too."""
        self.assert_problem(
            {
                "services": {"users": "http://a", "billing": "nonsense"},
                "routes": [{"path": "/", "service": "user"}, {"path": 5, "service": "billing"}],
            },
            'services.billing.instances[0].url: found "nonsense"; '
            "allowed: a URL such as http://localhost:3001",
            "routes[1].path: found 5; allowed: a path such as /v1, /users/{id} or /users/{id}/*",
            'routes[0].service: found "user"; allowed: a name under services: users, billing',
        )

    def test_twice(self) -> None:
        """Names are unique, and no route hides another."""
        route = {"path": "/a", "service": "s", "name": "n"}
        self.assert_problem(
            {
                "services": {"s": "http://a"},
                "routes": [
                    route,
                    {**route, "path": "/b"},
                    {"path": "/a", "service": "s", "methods": ["GET"]},
                    {"path": "/a", "service": "s", "methods": ["PUT", "GET"]},
                ],
            },
            'routes[1].name: the name of routes[0], too; found "n"; allowed: each name once',
            "routes[3]: the same host, path and method as routes[2]",
        )

    def test_strip_exact(self) -> None:
        """A template that matches exactly leaves nothing when it is stripped."""
        (problem,) = self.problems(
            {
                "services": {"s": "http://a"},
                "routes": [{"path": "/{id}", "service": "s", "strip_prefix": True}],
            }
        )
        self.assertTrue(problem.startswith("routes[0].strip_prefix: "), problem)

    def test_label(self) -> None:
        """A route without a name is called by its path."""
        self.assertEqual(Route(path="/a", service="s").label, "/a")
        self.assertEqual(Route(path="/a", service="s", name="n").label, "n")


class Authentication(ConfigTestCase):
    """Tokens and the secret behind them."""

    def test_required_needs_a_secret(self) -> None:
        """Asking for tokens without a way to check them is a mistake, globally and on a route."""
        self.assert_problem(
            {"auth": {"required": True}},
            "auth.jwt: is missing, but auth.required is true; "
            "allowed: a mapping with secret or secret_file",
        )
        self.assert_problem(
            {
                "services": {"s": "http://a"},
                "routes": [{"path": "/", "service": "s", "auth": "required"}],
            },
            "auth.jwt: is missing, but routes[0].auth is required; "
            "allowed: a mapping with secret or secret_file",
        )

    def test_one_secret(self) -> None:
        """The secret comes from one place."""
        self.assert_problem(
            {"auth": {"jwt": {}}},
            "auth.jwt: found neither; allowed: either secret or secret_file",
        )

    def test_secret_file(self) -> None:
        """A secret may be in a file; the line break at its end is not part of it."""
        file = self.temporary_file()
        file.write_text(SECRET + "\n")
        config = from_dict({"auth": {"jwt": {"secret_file": str(file)}}})
        assert config.auth.jwt is not None
        self.assertEqual(config.auth.jwt.key, SECRET.encode())
        file.write_text("short\n")
        self.assert_problem(
            {"auth": {"jwt": {"secret_file": str(file)}}},
            "auth.jwt.secret_file: found a secret of 5 characters; "
            "allowed: a secret of at least 32 characters",
        )
        file.write_bytes(b"\xff" * 40)
        (problem,) = self.problems({"auth": {"jwt": {"secret_file": str(file)}}})
        self.assertIn("does not hold text", problem)

    def test_changed_secret_file(self) -> None:
        """Two configurations that differ in the secret file's content are not equal."""
        file = self.temporary_file()
        file.write_text(SECRET)
        before = Jwt.model_validate({"secret_file": str(file)})
        file.write_text(SECRET + "!")
        self.assertNotEqual(Jwt.model_validate({"secret_file": str(file)}), before)

    def test_secrets_are_not_shown(self) -> None:
        """Neither problems nor the configuration's own text repeat a secret."""
        for wrong in ({"secret": "hunter2"}, {"secret": ["hunter2"]}, "hunter2", ["hunter2"]):
            self.assertNotIn("hunter2", "\n".join(self.problems({"auth": {"jwt": wrong}})))
        with self.assertRaises(ValidationError) as caught:
            Config.model_validate({"auth": {"jwt": {"secret": "hunter2"}}})
        self.assertNotIn("hunter2", str(caught.exception))
        config = from_dict({"auth": {"jwt": {"secret": SECRET}}})
        self.assertNotIn(SECRET, repr(config))
        self.assertNotIn(SECRET, str(config.model_dump_json()))


class Others(ConfigTestCase):
    """Networks, files, unknown keys."""

    def test_trusted_proxies(self) -> None:
        """Networks and single addresses, as a list or with commas."""
        for given in (["10.0.0.0/8", "::1"], "10.0.0.0/8, ::1", [ip_network("10.0.0.0/8"), "::1"]):
            config = from_dict({"trusted_proxies": given})
            expected = (ip_network("10.0.0.0/8"), IPv6Network("::1/128"))
            self.assertEqual(config.trusted_proxies, expected)
        self.assert_problem(
            {"trusted_proxies": ["10.0.0.1/8", "proxy", 5]},
            'trusted_proxies[0]: found "10.0.0.1/8"; '
            "allowed: a network without host bits; did you mean 10.0.0.0/8?",
            'trusted_proxies[1]: found "proxy"; '
            "allowed: an address or network such as 10.0.0.0/8 or fd00::/8",
            "trusted_proxies[2]: found 5; "
            "allowed: an address or network such as 10.0.0.0/8 or fd00::/8",
        )

    def test_log_file(self) -> None:
        """The access log goes to a directory that is there."""
        self.assert_problem(
            {"access_log": {"file": "/nowhere/at/all/access.log"}},
            "access_log.file: /nowhere/at/all is not a directory; "
            "allowed: a path in an existing directory",
        )

    def test_unreadable_files(self) -> None:
        """A directory is no certificate, and neither is a file that others keep to themselves."""
        with self.assertRaises(ValidationError):
            Certificate.model_validate({"certificate": "/", "key": "/"})
        file = self.temporary_file()
        file.write_text("PEM")
        # Whoever runs the tests as root may read everything.
        self.patch(os, "access", lambda path, mode: False)
        self.assert_problem(
            {"services": {"s": {"instances": "https://a", "tls": {"ca": str(file)}}}},
            f"services.s.tls.ca: {file} can't be read; allowed: a file that can be read",
        )

    def test_lengths(self) -> None:
        """Text that is too long is told with its bound; an empty value where one is needed, too."""
        self.assert_problem(
            {
                "services": {"s": "http://a"},
                "routes": [
                    {"path": "/" + "x" * 1024, "service": "s"},
                    {"path": None, "service": "s", "name": "n" * 65},
                ],
            },
            f'routes[0].path: found "/{"x" * 79}..."; allowed: a path such as /v1, /users/{{id}} '
            "or /users/{id}/*, at most 1024 characters",
            f'routes[1].name: found "{"n" * 65}"; allowed: text of at most 64 characters',
            "routes[1].path: found nothing; "
            "allowed: a path such as /v1, /users/{id} or /users/{id}/*",
        )

    def test_unknown_keys(self) -> None:
        """An unknown key names the one that was probably meant, or all there are."""
        self.assert_problem(
            {
                "servces": {},
                "admin": {"zzz": 1},
                "routes": [{"path": "/", "service": "s", "stripPrefix": True}],
                "services": {"s": {"instances": "http://a", "instnaces": []}},
            },
            'services.s: unknown key "instnaces"; did you mean "instances"?',
            'routes[0]: unknown key "stripPrefix"; did you mean "strip_prefix"?',
            'admin: unknown key "zzz"; known keys: open',
            'unknown key "servces"; did you mean "services"?',
        )

    def test_wrong_shapes(self) -> None:
        """A list, a mapping or text where something else belongs is told in these words."""
        self.assert_problem(
            {"admin": [1], "routes": "x", "log_level": ["info"], "tracing": {"start": "maybe"}},
            "routes: found text; allowed: a list of routes",
            "log_level: found a list; "
            "allowed: one of fatal, error, warn, info, debug, trace, silent",
            "admin: found a list; allowed: a mapping with open",
            'tracing.start: found "maybe"; allowed: true or false',
        )

    def test_models_inside(self) -> None:
        """A configuration can be built from models as well as from plain values."""
        config = Config(
            listeners=(Listener(tcp=":0"),),
            services={"a": Service(instances=(Instance(url="http://a"),))},
            routes=(Route(path="/", service="a"),),
        )
        self.assertEqual(config.services["a"].instances[0].host, "a")
