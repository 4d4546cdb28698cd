"""The route table, by examples and against a scan of all rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.routes import Match, MethodNotAllowed, RouteTable, Rule
from tests.core.profile import PROPERTY

GET = b"GET"


def rule(path: str, target: str, *methods: bytes, host: str | None = None) -> Rule[str]:
    return Rule(host, path, frozenset(methods), target)


class RoutesTestCase(SynchronousTestCase):
    """Asserts in the words of a route table."""

    def assertLeads(
        self,
        table: RouteTable[str],
        path: bytes,
        target: str | None,
        rest: bytes | None = None,
        *,
        host: bytes = b"example.com",
        method: bytes = GET,
    ) -> None:
        found = table.match(host, method, path)
        if target is None:
            self.assertIsNone(found, path)
            return
        assert isinstance(found, Match), (path, found)
        self.assertEqual(found.target, target, path)
        if rest is not None:
            self.assertEqual(found.rest, rest, path)


class PathTests(RoutesTestCase):
    def test_prefix(self) -> None:
        """A prefix matches itself and all below it, but only at a segment's end."""
        table = RouteTable([rule("/v1", "v1")])
        self.assertLeads(table, b"/v1", "v1", b"/")
        self.assertLeads(table, b"/v1/", "v1", b"/")
        self.assertLeads(table, b"/v1/a/b", "v1", b"/a/b")
        self.assertLeads(table, b"/v1//a/", "v1", b"//a/")
        for path in (b"/v10", b"/v", b"/", b"/V1", b"//v1", b"/%761"):
            self.assertLeads(table, path, None)

    def test_root(self) -> None:
        """ "/" matches every path and nothing else; the rest is the whole path."""
        table = RouteTable([rule("/", "all")])
        for path in (b"/", b"/a", b"//", b"/a/b/c/"):
            self.assertLeads(table, path, "all", path)
        for path in (b"*", b"", b"http://a/", b"a/b"):
            self.assertLeads(table, path, None)

    def test_everything_below(self) -> None:
        """ "/v1/*" and "/v1/" match what is below, not the place itself."""
        for path in ("/v1/*", "/v1/"):
            table = RouteTable([rule(path, "below")])
            self.assertLeads(table, b"/v1", None)
            self.assertLeads(table, b"/v1/", "below", b"/")
            self.assertLeads(table, b"/v1/a", "below", b"/a")

    def test_template(self) -> None:
        """A template matches exactly; a parameter is one segment with something in it."""
        table = RouteTable([rule("/users/{id}", "user"), rule("/users/{id}/posts", "posts")])
        self.assertLeads(table, b"/users/5", "user", b"/")
        self.assertLeads(table, b"/users/5/posts", "posts", b"/")
        for path in (b"/users", b"/users/", b"/users/5/", b"/users/5/x", b"/users//posts"):
            self.assertLeads(table, path, None)

    def test_template_with_slash_at_its_end(self) -> None:
        table = RouteTable([rule("/users/{id}/", "user")])
        self.assertLeads(table, b"/users/5/", "user", b"/")
        self.assertLeads(table, b"/users/5", None)
        self.assertLeads(table, b"/users/5/x", None)

    def test_below_a_template(self) -> None:
        table = RouteTable([rule("/users/{id}/*", "below")])
        self.assertLeads(table, b"/users/5/", "below", b"/")
        self.assertLeads(table, b"/users/5/a/b", "below", b"/a/b")
        self.assertLeads(table, b"/users/5", None)

    def test_raw_bytes(self) -> None:
        """Percent-encoding is compared as it stands, and an encoded slash is none."""
        table = RouteTable([rule("/caf%C3%A9", "coffee"), rule("/a/{b}", "b")])
        self.assertLeads(table, b"/caf%C3%A9/x", "coffee")
        self.assertLeads(table, b"/caf%c3%a9/x", None)
        self.assertLeads(table, b"/a/x%2Fy", "b")

    def test_bad_path(self) -> None:
        """A rule's path must begin with a slash."""
        with self.assertRaises(ValueError):
            RouteTable([rule("v1", "v1")])


class SpecificityTests(RoutesTestCase):
    def test_longer_wins(self) -> None:
        """The order of rules doesn't matter where one is more specific."""
        rules = [rule("/", "all"), rule("/v1/admin", "admin"), rule("/v1", "v1")]
        for ordered in (rules, rules[::-1]):
            table = RouteTable(ordered)
            self.assertLeads(table, b"/v1/admin/x", "admin")
            self.assertLeads(table, b"/v1/adm", "v1")
            self.assertLeads(table, b"/v2", "all")

    def test_literal_wins_over_parameter(self) -> None:
        table = RouteTable([rule("/users/{id}", "user"), rule("/users/me", "me")])
        self.assertLeads(table, b"/users/me", "me")
        self.assertLeads(table, b"/users/me/x", "me")
        self.assertLeads(table, b"/users/you", "user")

    def test_parameter_is_tried_where_the_literal_fails(self) -> None:
        table = RouteTable([rule("/a/b/{x}", "literal"), rule("/a/{y}/c/d", "parameter")])
        self.assertLeads(table, b"/a/b/c/d", "parameter")
        self.assertLeads(table, b"/a/b/c", "literal")

    def test_exact_template_wins_over_prefix(self) -> None:
        rules = [rule("/{a}", "exact"), rule("/", "all"), rule("/{a}/*", "below")]
        table = RouteTable(rules)
        self.assertLeads(table, b"/x", "exact")
        self.assertLeads(table, b"/x/y", "below")
        self.assertLeads(table, b"/", "all")

    def test_below_wins_over_prefix(self) -> None:
        table = RouteTable([rule("/v1", "v1"), rule("/v1/*", "below")])
        self.assertLeads(table, b"/v1", "v1")
        self.assertLeads(table, b"/v1/x", "below")

    def test_first_of_equals(self) -> None:
        table = RouteTable([rule("/a", "first"), rule("/a", "second")])
        self.assertLeads(table, b"/a", "first")
        table = RouteTable([rule("/a", "first", GET), rule("/a", "second", GET)])
        self.assertLeads(table, b"/a", "first")


class HostTests(RoutesTestCase):
    def test_hosts(self) -> None:
        """An exact host wins over a wildcard, the longest wildcard over others, then any."""
        table = RouteTable(
            [
                rule("/", "any"),
                rule("/", "wide", host="*.example.com"),
                rule("/", "narrow", host="*.eu.example.com"),
                rule("/", "exact", host="api.eu.example.com"),
            ]
        )
        for host, target in (
            (b"api.eu.example.com", "exact"),
            (b"www.eu.example.com", "narrow"),
            (b"a.b.eu.example.com", "narrow"),
            (b"eu.example.com", "wide"),
            (b"example.com", "any"),
            (b"badexample.com", "any"),
            (b"", "any"),
        ):
            self.assertLeads(table, b"/x", target, host=host)

    def test_host_before_path(self) -> None:
        """A short path for this host wins over a long one for any host."""
        table = RouteTable([rule("/a/b", "any"), rule("/", "here", host="example.com")])
        self.assertLeads(table, b"/a/b", "here")
        self.assertLeads(table, b"/a/b", "any", host=b"example.org")

    def test_paths_that_a_host_does_not_have(self) -> None:
        """What a host has no rule for is looked up among the less specific hosts."""
        table = RouteTable([rule("/", "any"), rule("/a", "here", host="example.com")])
        self.assertLeads(table, b"/b", "any")
        table = RouteTable([rule("/a", "here", host="example.com")])
        self.assertLeads(table, b"/a", None, host=b"example.org")


class MethodTests(RoutesTestCase):
    def test_listed_method_wins_over_all(self) -> None:
        for rules in (
            [rule("/a", "all"), rule("/a", "get", GET)],
            [rule("/a", "get", GET), rule("/a", "all")],
        ):
            table = RouteTable(rules)
            self.assertLeads(table, b"/a", "get")
            self.assertLeads(table, b"/a", "all", method=b"POST")

    def test_less_specific_rule_with_the_method(self) -> None:
        """A rule without the method does not hide one that has it."""
        table = RouteTable([rule("/a/b", "post", b"POST"), rule("/a", "get", GET)])
        self.assertLeads(table, b"/a/b", "get")
        self.assertLeads(table, b"/a/b", "post", method=b"POST")

    def test_not_allowed(self) -> None:
        """If only the method is wrong, the answer can say which are right, sorted."""
        table = RouteTable(
            [
                rule("/a/b", "1", b"PUT", b"POST"),
                rule("/a", "2", GET),
                rule("/a", "3", b"PATCH", host="example.com"),
                rule("/other", "4", b"TRACE"),
            ]
        )
        self.assertEqual(
            table.match(b"example.com", b"DELETE", b"/a/b"),
            MethodNotAllowed((GET, b"PATCH", b"POST", b"PUT")),
        )
        self.assertEqual(table.match(b"example.org", b"DELETE", b"/a"), MethodNotAllowed((GET,)))
        self.assertIsNone(table.match(b"example.org", b"DELETE", b"/b"))

    def test_get_is_not_head(self) -> None:
        """Methods are taken literally."""
        table = RouteTable([rule("/a", "get", GET)])
        self.assertEqual(table.match(b"", b"HEAD", b"/a"), MethodNotAllowed((GET,)))


class ReprTests(RoutesTestCase):
    def test_repr(self) -> None:
        table = RouteTable([rule("/", "all")])
        self.assertEqual(repr(table), "<RouteTable 1 rules>")
        self.assertEqual(repr(table.match(b"", GET, b"/")), "<Match 'all'>")


# -- against a naive scan -----------------------------------------------------------------------


def host_rank(pattern: str | None, host: str) -> int | None:
    """How specific ``pattern`` is for ``host``; None if it doesn't match."""
    if pattern is None:
        return 0
    if pattern.startswith("*."):
        return len(pattern) if host.endswith(pattern[1:]) and host != pattern[1:] else None
    return 1000 if pattern == host else None


def path_rank(pattern: str, path: str) -> tuple[int, ...] | None:
    """How specific ``pattern`` is for ``path``, segment by segment; None if it doesn't match."""
    wanted, given_ = pattern[1:].split("/"), path[1:].split("/")
    template = "{" in pattern
    below = wanted[-1] == "*" or (wanted[-1] == "" and not template)
    if below:
        wanted.pop()
    if len(given_) < len(wanted) + below or (template and not below and len(given_) > len(wanted)):
        return None
    rank = []
    for want, have in zip(wanted, given_, strict=False):
        if want.startswith("{"):
            if not have:
                return None
            rank.append(2)
        elif want == have:
            rank.append(3)
        else:
            return None
    goes_on = len(given_) > len(wanted)
    return (*rank, 1 if (below if goes_on else template) else 0)


def scan(
    rules: list[Rule[str]], host: str, method: bytes, path: str
) -> str | tuple[bytes, ...] | None:
    """What `RouteTable.match` documents, the slow way."""
    best: tuple[tuple[int, tuple[int, ...], bool, int], str] | None = None
    allow: set[bytes] = set()
    for number, one in enumerate(rules):
        by_host, by_path = host_rank(one.host, host), path_rank(one.path, path)
        if by_host is None or by_path is None:
            continue
        if one.methods and method not in one.methods:
            allow |= one.methods
            continue
        key = (by_host, by_path, bool(one.methods), -number)
        if best is None or key > best[0]:
            best = (key, one.target)
    if best is not None:
        return best[1]
    return tuple(sorted(allow)) if allow else None


SEGMENTS = st.sampled_from(["a", "b", "c"])
PATTERNS = st.builds(
    lambda segments, end: "/" + "/".join([*segments, *end]),
    st.lists(SEGMENTS | st.sampled_from(["{x}", "{y}"]), max_size=4),
    st.sampled_from([[], [""], ["*"]]),
)
METHODS = st.sampled_from([GET, b"POST", b"PUT"])
HOSTS = st.sampled_from(["h.com", "x.h.com", "y.x.h.com", "o.org"])
RULES = st.lists(
    st.tuples(
        st.none() | HOSTS | st.sampled_from(["*.h.com", "*.x.h.com", "*.com"]),
        PATTERNS,
        st.frozensets(METHODS, max_size=2),
    ),
    max_size=12,
).map(lambda made: [Rule(h, p, m, str(n)) for n, (h, p, m) in enumerate(made)])
PATHS = st.lists(SEGMENTS | st.just(""), max_size=6).map(lambda parts: "/" + "/".join(parts))


class ModelTests(RoutesTestCase):
    @PROPERTY
    @given(RULES, HOSTS, METHODS, PATHS)
    def test_equals_a_scan(
        self, rules: list[Rule[str]], host: str, method: bytes, path: str
    ) -> None:
        """The tree finds what comparing with every rule finds."""
        found = RouteTable(rules).match(host.encode(), method, path.encode())
        expected = scan(rules, host, method, path)
        if isinstance(found, Match):
            self.assertEqual(found.target, expected)
            self.assertTrue(path.encode().endswith(found.rest) or found.rest == b"/")
        elif isinstance(found, MethodNotAllowed):
            self.assertEqual(found.allow, expected)
        else:
            self.assertIsNone(expected)
