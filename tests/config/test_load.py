"""Files and text: where each problem is, what comes from the environment, what is bounded."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Config, ConfigError, Problem, load, parse
from rtgateway.config.document import MAX_BYTES
from tests.config.case import TextTestCase

SECRET = "correct horse battery staple, twice"


class Yaml(TextTestCase):
    """YAML with places."""

    def test_all_at_once(self) -> None:
        """Every mistake is told in one go, each with its line and key, in the order of the file."""
        self.assert_problems(
            """
            services:
              users:
                instances:
                  - url: localhost:3001
                  - http://b
                pool:
                  idle: many
              billing:
                instnaces: []
            log_level: loud
            """,
            'gateway:4: services.users.instances[0].url: found "localhost:3001"; '
            "allowed: a URL such as http://localhost:3001",
            'gateway:7: services.users.pool.idle: found "many"; '
            "allowed: a whole number from 0 to 65535",
            "gateway:8: services.billing.instances: no instance; "
            "allowed: at least one, or discovery",
            'gateway:9: services.billing: unknown key "instnaces"; did you mean "instances"?',
            'gateway:10: log_level: found "loud"; '
            "allowed: one of fatal, error, warn, info, debug, trace, silent",
        )

    def test_problem_parts(self) -> None:
        """A program gets the parts of a problem one by one."""
        (problem,) = self.problems("log_level: loud")
        self.assertEqual(
            problem,
            Problem(
                "gateway",
                1,
                "log_level",
                "",
                '"loud"',
                "one of fatal, error, warn, info, debug, trace, silent",
            ),
        )

    def test_line_of_a_shorthand(self) -> None:
        """A bare URL has the line that it stands on."""
        self.assert_problems(
            """
            services:
              users:
                - http://a
                - nonsense
            """,
            'gateway:4: services.users.instances[1].url: found "nonsense"; '
            "allowed: a URL such as http://localhost:3001",
        )

    def test_names_with_dots(self) -> None:
        """A name with a dot is quoted in a key."""
        self.assert_problems(
            'services: {"a.b": x}',
            'gateway:1: services."a.b".instances[0].url: found "x"; '
            "allowed: a URL such as http://localhost:3001",
        )

    def test_empty(self) -> None:
        """An empty file, or one of comments, is all defaults."""
        for text in ("", "# nothing\n", "---\n", "---\n...\n"):
            self.assertEqual(self.parse(text), Config())

    def test_not_a_mapping(self) -> None:
        """A list or a word is no configuration."""
        for text in ("- 1", "word"):
            (problem,) = self.problems(text)
            self.assertIn(
                "allowed: a mapping with listeners, services", problem.allowed and str(problem)
            )

    def test_words_stay_words(self) -> None:
        """``off``, ``no`` and file modes mean what they say, not what YAML 1.1 makes of them."""
        config = self.parse(
            """
            access_log: {format: off}
            auth: {required: false}
            listeners:
              - unix: /tmp/x
                mode: 0640
            services: {no: http://a, 1: http://b, ~: http://c}
            timeouts: {connect: 1.5, head: 2, body_idle: "3s"}
            """
        )
        self.assertEqual(config.access_log.format, "off")
        self.assertEqual(config.listeners[0].mode, "0640")
        self.assertEqual(list(config.services), ["no", "1", "~"])
        self.assertEqual((config.timeouts.connect, config.timeouts.head), (1.5, 2.0))

    def test_duplicate_keys(self) -> None:
        """A key that is there twice is told with both lines; the rest is checked all the same."""
        self.assert_problems(
            """
            services:
              users: http://a
              users: http://b
            log_level: debug
            log_level: loud
            sse: {heartbeat: x}
            """,
            'gateway:3: services: the key "users" is there twice, first on line 2',
            'gateway:5: the key "log_level" is there twice, first on line 4',
            'gateway:6: sse.heartbeat: found "x"; allowed: a duration such as 250ms, 30s, 5m or 1h',
        )

    def test_aliases(self) -> None:
        """Anchors, aliases and merge keys work; what a mapping says itself wins."""
        config = self.parse(
            """
            services:
              a: &base
                instances: http://a
                pool: &pool {idle: 1, queue: 2}
              b:
                <<: *base
                instances: http://b
              c:
                <<: [{balance: least_load}, *base]
                pool: {<<: *pool, queue: 3}
            """
        )
        self.assertEqual(config.services["b"].instances[0].host, "b")
        self.assertEqual(config.services["b"].pool, config.services["a"].pool)
        self.assertEqual(config.services["c"].pool.idle, 1)
        self.assertEqual(config.services["c"].pool.queue, 3)

    def test_broken(self) -> None:
        """What is not readable has its line and a reason in words."""
        for text, line, reason in (
            ("a: 1\nb: [1, 2\n", 3, "not valid YAML: "),
            ("a: 1\n\tb: 2\n", 2, "a tab where only spaces may be"),
            ("a: b: c\n", 1, "a second colon on the line"),
            ("a: 1\n---\nb: 2\n", 2, 'a second document ("---")'),
            ("a: 1\nb: *nothing\n", 2, "an alias (*) without an anchor"),
            ("a: &x [*x]\n", 1, "an alias (*) without an anchor"),
            ("a: 1\nb: !!python/object:os.system x\n", 2, "a tag (!)"),
            ("a: !secret [x]\n", 1, "a tag (!)"),
            ("[a]: 1\n", 1, "a list or mapping as a key"),
            ("a: 1\nb: \x00\n", 2, "a character that is not text (U+0000)"),
            ("a:\n  <<: 1\n", 2, '"<<" takes a mapping'),
            ("a:\n  <<: {[1]: 2}\n", 2, '"<<" takes a mapping'),
            ("a: 'open\n", 2, "not valid YAML: "),
        ):
            (problem,) = self.problems(text)
            self.assertEqual(problem.line, line, text)
            self.assertIn(reason, problem.message)

    def test_tags_for_text(self) -> None:
        """The plain tags of YAML are understood."""
        config = self.parse(
            "auth: !!map {required: !!bool true, jwt: {secret: !!str %s}}" % ("1" * 32)
        )
        self.assertTrue(config.auth.required)
        assert config.auth.jwt is not None
        self.assertEqual(config.auth.jwt.key, b"1" * 32)

    def test_alias_bomb(self) -> None:
        """Aliases of aliases of aliases end at a bound, in an instant."""
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
        (problem,) = self.problems("\n".join(lines))
        self.assertIn("through aliases", problem.message)
        chain = ["b0: &b0 [x]"] + [f"b{n}: &b{n} [*b{n - 1}]" for n in range(1, 60)]
        (problem,) = self.problems("\n".join(chain))
        self.assertIn("too deep, through aliases", problem.message)

    def test_depth(self) -> None:
        """Brackets in brackets end at a bound, not at the end of the stack."""
        (problem,) = self.problems("[" * 100_000)
        self.assertIn("nested more than 32 levels deep", problem.message)

    def test_secrets_in_the_wrong_place(self) -> None:
        """What may be a secret is not shown, wherever the indentation has put it."""
        for text in (
            "auth: {jwt: hunter2}",
            "auth: hunter2",
            "auth: {jwt: {secret: hunter2}}",
            "auth: {jwt: {secret: [hunter2]}}",
            "auth: {jwt: {secret: *hunter2}}",
            "auth: {jwt: {secret: !hunter2 x}}",
            "auth: {jwt: {secret: 'hunter2${'}}",
            "services: {a: 'http://user:hunter2@host'}",
        ):
            found = "\n".join(map(str, self.problems(text)))
            self.assertNotIn("hunter2", found)
            self.assertTrue(found.startswith("gateway:1: "), found)


class Substitution(TextTestCase):
    """``${NAME}`` in values."""

    def test_values(self) -> None:
        """Text, numbers, booleans, lists and parts of text come from the environment."""
        config = self.parse(
            """
            services: {users: "http://${HOST}:${PORT:-80}/x"}
            connections: {per_ip: "${PER_IP}"}
            admin: {open: "${OPEN:-true}"}
            trusted_proxies: ${PROXIES}
            log_level: ${LEVEL:-debug}
            auth: {jwt: {secret: "${EMPTY:-}${SECRET}"}}
            """,
            HOST="users.internal",
            PER_IP="7",
            PROXIES="10.0.0.0/8, ::1",
            LEVEL="",
            EMPTY="",
            SECRET=SECRET,
        )
        self.assertEqual(config.services["users"].instances[0].label, "http://users.internal/x")
        self.assertEqual(config.connections.per_ip, 7)
        self.assertTrue(config.admin.open)
        self.assertEqual(len(config.trusted_proxies), 2)
        self.assertEqual(config.log_level, "debug")
        assert config.auth.jwt is not None
        self.assertEqual(config.auth.jwt.key, SECRET.encode())

    def test_escape(self) -> None:
        """Two dollar signs keep the braces; a dollar sign alone is nothing special."""
        config = self.parse("auth: {jwt: {secret: '$${NOT} $HOME $$ 12345678901234567890123'}}")
        assert config.auth.jwt is not None
        self.assertEqual(config.auth.jwt.key, b"${NOT} $HOME $$ 12345678901234567890123")

    def test_values_are_not_substituted_again(self) -> None:
        """A value from the environment is taken as it is."""
        config = self.parse("auth: {jwt: {secret: '${A}'}}", A="${B}" + "x" * 40, B="no")
        assert config.auth.jwt is not None
        self.assertEqual(config.auth.jwt.key, b"${B}" + b"x" * 40)

    def test_missing(self) -> None:
        """A variable that is not set is told with its line, and nothing else about its value."""
        self.assert_problems(
            """
            auth:
              jwt:
                secret: ${JWT_SECRET}
            services:
              users: http://${HOST}:${PORT}
            log_level: ${LEVEL
            """,
            "gateway:3: auth.jwt.secret: the environment variable JWT_SECRET is not set, "
            'and has no default; allowed: "${JWT_SECRET:-default}"',
            "gateway:5: services.users: the environment variable HOST is not set, "
            'and has no default; allowed: "${HOST:-default}"',
            "gateway:5: services.users: the environment variable PORT is not set, "
            'and has no default; allowed: "${PORT:-default}"',
            'gateway:6: log_level: found a "${" without a name and a "}"; '
            'allowed: "${NAME}", "${NAME:-default}", or "$${" for the characters themselves',
        )

    def test_wrong_values_are_not_shown(self) -> None:
        """A value from the environment may be anything: its name is enough to find it."""
        self.assert_problems(
            "log_level: ${LEVEL}",
            'gateway:1: log_level: found "${LEVEL}" (its value is not shown); '
            "allowed: one of fatal, error, warn, info, debug, trace, silent",
            LEVEL="hunter2",
        )


class Toml(TextTestCase):
    """TOML with places."""

    format = "toml"

    def test_same_models(self) -> None:
        """TOML says the same things as YAML, the environment included."""
        config = self.parse(
            """
            log_level = "${LEVEL}"
            [services.users]
            instances = ["http://a", {url = "http://b", weight = 2}]
            [[routes]]
            path = "/a"
            service = "users"
            """,
            LEVEL="warn",
        )
        self.assertEqual(config.log_level, "warn")
        self.assertEqual(config.services["users"].instances[1].weight, 2)
        self.assertEqual(config.routes[0].service, "users")

    def test_lines(self) -> None:
        """Keys, dotted keys, tables, lists and what is inside them have their lines."""
        self.assert_problems(
            '''
            log_level = "loud"  # a comment [with] brackets = 1
            limits.body = "x"
            trusted_proxies = [
              "10.0.0.0/8", # "quoted"
              "proxy",
            ]
            environment = """
            long
            text"""

            [services."a.b"]
            instances = [
              "http://a",
              { url = "b", weight = 1 },
            ]
            [services.'c'.pool]
            idle = -1
            [[routes]]
            path = "/"
            service = "c"
            [[routes]]
            path = 5
            service = "none"
            [routes.timeouts]
            connect = 1979-05-27T07:32:00Z
            ''',
            'gateway:1: log_level: found "loud"; '
            "allowed: one of fatal, error, warn, info, debug, trace, silent",
            'gateway:2: limits.body: found "x"; allowed: a size such as 512, 64KiB or 10MiB',
            'gateway:5: trusted_proxies[1]: found "proxy"; '
            "allowed: an address or network such as 10.0.0.0/8 or fd00::/8",
            'gateway:7: environment: found "long\\ntext"; '
            "allowed: one of development, test, production",
            'gateway:14: services."a.b".instances[1].url: found "b"; '
            "allowed: a URL such as http://localhost:3001",
            "gateway:16: services.c.instances: no instance; allowed: at least one, or discovery",
            "gateway:17: services.c.pool.idle: found -1; allowed: a whole number from 0 to 65535",
            "gateway:22: routes[1].path: found 5; "
            "allowed: a path such as /v1, /users/{id} or /users/{id}/*",
            'gateway:23: routes[1].service: found "none"; allowed: a name under services: c, a.b',
            "gateway:25: routes[1].timeouts.connect: found a datetime; "
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0",
        )

    def test_strings(self) -> None:
        """Quotes, backslashes, brackets and comments inside strings don't move the lines."""
        for text in (
            r'"a \" ] # \\"',
            r"'a \ ] # '",
            '"""\na""b"""""',
            "'''\na''b'''''",
            '""',
            '""""""',
            r'"""a \""" b"""',
            '["a", "]", [ # ]\n"b"],]',
            "[[], {}]",
            "{ a = [1, 2], b.c = { d = '}' } }",
            "+1_000.5e3 # }",
            "0xff",
        ):
            body = f"one = {text}\ntwo = 2\n"
            with self.assertRaises(ConfigError) as caught:
                parse(body, name="x", format="toml", env={})
            lines = {
                str(problem).split('"')[1]: problem.line for problem in caught.exception.problems
            }
            self.assertEqual(lines, {"one": 1, "two": text.count("\n") + 2}, text)

    def test_carriage_returns(self) -> None:
        """Lines may end as on Windows."""
        with self.assertRaises(ConfigError) as caught:
            parse("a = 1\r\n\r\nb = '''\r\n'''\r\nc = 1\r\n", format="toml", env={})
        self.assertEqual([problem.line for problem in caught.exception.problems], [1, 3, 5])

    def test_broken(self) -> None:
        """What is not readable has its line."""
        for text, line, reason in (
            ("a = 1\nb = \n", 2, "not valid TOML: "),
            ("a = 1\na = 2\n", 2, "there twice"),
            ("[a]\n[a]\n", 2, "there twice"),
            ("a = [\n", 2, "not valid TOML: "),
            ("a = " + "[" * 100_000, None, "nested more than 32 levels deep"),
            ("a = " + "[" * 40 + "]" * 40, None, "nested more than 32 levels deep"),
            ("a = " + "9" * 5000, None, "too many digits"),
        ):
            (problem,) = self.problems(text)
            self.assertEqual(problem.line, line, text[:20])
            self.assertIn(reason, problem.message)


class Files(SynchronousTestCase):
    """Configuration files."""

    def setUp(self) -> None:
        """A directory of its own."""
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def write(self, name: str, content: str | bytes) -> Path:
        """A file with ``content``."""
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def problem(self, path: Path) -> str:
        """The one problem with a file, without its name."""
        with self.assertRaises(ConfigError) as caught:
            load(path, env={})
        (problem,) = caught.exception.problems
        self.assertEqual(problem.file, str(path))
        return str(problem).removeprefix(str(path))

    def test_format_by_name(self) -> None:
        """A name that ends in .toml is TOML, everything else YAML."""
        self.assertEqual(load(self.write("a.toml", 'log_level = "warn"'), {}).log_level, "warn")
        self.assertEqual(load(self.write("a.yaml", "log_level: warn"), {}).log_level, "warn")
        self.assertEqual(load(str(self.write("a.json", '{"log_level": "warn"}'))).log_level, "warn")

    def test_relative_paths(self) -> None:
        """Paths inside a file start from where the file is."""
        self.write("secret", SECRET)
        path = self.write("a.yaml", "auth: {jwt: {secret_file: secret}}\naccess_log: {file: a.log}")
        config = load(path, {})
        assert config.auth.jwt is not None
        self.assertEqual(
            config.auth.jwt.secret_file, Path(os.path.abspath(self.directory / "secret"))
        )
        self.assertEqual(config.access_log.file, Path(os.path.abspath(self.directory / "a.log")))

    def test_unreadable(self) -> None:
        """A file that is not there, or not a file, is told as such."""
        self.assertEqual(
            self.problem(self.directory / "no.yaml"), ": can't be read: No such file or directory"
        )
        self.assertEqual(self.problem(self.directory), ": can't be read: Is a directory")

    def test_too_large(self) -> None:
        """A log file by mistake is not read to its end."""
        large = self.write("a.yaml", b"#" * (MAX_BYTES + 1))
        self.assertEqual(self.problem(large), ": too large; allowed: at most 1MiB")
        with self.assertRaises(ConfigError):
            parse("#" * (MAX_BYTES + 1), env={})
        self.assertEqual(load(self.write("b.yaml", b"#" * MAX_BYTES), {}), Config())

    def test_encoding(self) -> None:
        """Files are UTF-8, with or without a byte order mark."""
        self.assertEqual(
            self.problem(self.write("a.yaml", b"a: 1\nb: \xff\n")), ":2: not UTF-8 text"
        )
        self.assertEqual(
            load(self.write("b.yaml", b"\xef\xbb\xbflog_level: warn"), {}).log_level, "warn"
        )
