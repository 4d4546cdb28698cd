"""The section ``websocket``, global and of routes."""

from __future__ import annotations

from typing import Any

from rtgateway.config import Config, Route, WebSocket, effective, from_dict
from tests.config.case import ConfigTestCase, TextTestCase

SECRET = "correct horse battery staple, twice"
AUTH = {"required": True, "jwt": {"secret": SECRET}}
ORIGIN = "an origin such as https://app.example.com, https://*.example.com or null"


def mapping(websocket: Any = None, *routes: Any, **keys: Any) -> dict[str, Any]:
    """A configuration with the global section, and a route for each of these sections."""
    listed = [
        {"path": f"/{index}", "service": "chat", "websocket": section}
        for index, section in enumerate(routes)
    ]
    return {"services": {"chat": "ws://chat"}, "websocket": websocket, "routes": listed, **keys}


def settled(websocket: Any, route: Any) -> WebSocket:
    """What holds on a route with this section."""
    config = from_dict(mapping(websocket, route, auth=AUTH))
    own = config.routes[0].websocket
    assert own is not None
    return effective(config.websocket, own)


class Sections(ConfigTestCase):
    """What is on, and what holds where."""

    def test_defaults(self) -> None:
        """Clients are pinged, what is slow is closed, and tokens end what they began."""
        plain = Config().websocket
        self.assertEqual(plain, WebSocket())
        self.assertEqual(plain.max_buffered, 2_000_000)
        self.assertEqual((plain.ping_interval, plain.pong_timeout), (30.0, 10.0))
        self.assertEqual((plain.max_frame, plain.max_message), (0, 0))
        self.assertEqual((plain.messages_per_second, plain.bytes_per_second), (0, 0))
        self.assertEqual((plain.over_rate, plain.close_at_expiry), ("close", True))
        self.assertEqual((plain.connections, plain.per_ip, plain.per_identity), (0, 0, 0))
        self.assertEqual((plain.origins, plain.token_query, plain.token_cookie), ((), None, None))
        self.assertIsNone(Route(path="/", service="s").websocket)

    def test_switch(self) -> None:
        """On a route ``true`` is enough, and ``false`` is as if left out; text will do for both."""
        switches: tuple[Any, ...] = (True, "on", "true", " On ", {})
        for on in switches:
            self.assertEqual(from_dict(mapping(None, on)).routes[0].websocket, WebSocket(), on)
        for off in (False, "off", "false", None):
            self.assertIsNone(from_dict(mapping(None, off)).routes[0].websocket, off)

    def test_wrong_shapes(self) -> None:
        """Anything else is told in these words; the global section is no switch."""
        words = "allowed: true, false or a mapping with keys of websocket"
        self.assert_problem(
            mapping(None, "maybe", 1, ["on"]),
            f"routes[0].websocket: found text; {words}",
            f"routes[1].websocket: found 1; {words}",
            f"routes[2].websocket: found a list; {words}",
        )
        (problem,) = self.problems(mapping(True))
        self.assertRegex(problem, "^websocket: found true; allowed: a mapping with max_buffered, ")

    def test_unknown_key(self) -> None:
        """A key that is not there names the one that was meant."""
        self.assert_problem(
            mapping({"origin": "https://a"}, {"pingInterval": 1}),
            'routes[0].websocket: unknown key "pingInterval"; did you mean "ping_interval"?',
            'websocket: unknown key "origin"; did you mean "origins"?',
        )

    def test_route_differs(self) -> None:
        """A route differs in the keys that it names, also where they say what is the default."""
        base = {"ping_interval": "5s", "max_message": "1MiB", "origins": "https://a"}
        self.assertEqual(settled(base, True), from_dict(mapping(base)).websocket)
        found = settled(base, {"ping_interval": "30s", "max_frame": 10, "origins": []})
        self.assertEqual(
            found, WebSocket(ping_interval=30.0, max_message=1 << 20, max_frame=10, origins=())
        )

    def test_keys_named(self) -> None:
        """Which keys a route names is known after validation, however it was written."""
        config = from_dict(mapping(None, {"ping_interval": 30, "max_frame": None}, True))
        first, second = (route.websocket for route in config.routes)
        assert first is not None
        assert second is not None
        self.assertEqual(first.model_fields_set, {"ping_interval"})
        self.assertEqual(second.model_fields_set, set())
        self.assertEqual(first, second)
        again = Config.model_validate(config).routes[0].websocket
        assert again is not None
        self.assertEqual(again.model_fields_set, {"ping_interval"})
        route = Route(path="/", service="s", websocket=first)
        assert route.websocket is not None
        self.assertEqual(route.websocket.model_fields_set, {"ping_interval"})

    def test_route_takes_back(self) -> None:
        """A route can do without the token's other places, and without the list."""
        base = {"token_query": "token", "token_cookie": "session", "origins": ["https://a"]}
        found = settled(base, {"token_query": "", "token_cookie": "", "origins": ""})
        self.assertEqual(found, WebSocket())

    def test_at_once(self) -> None:
        """A burst that is left out is what comes in a second, and one message at least."""
        cases: tuple[tuple[dict[str, Any], float, float], ...] = (
            ({"messages_per_second": 50, "bytes_per_second": "1KiB"}, 50, 1024),
            ({"messages_per_second": 0.2, "bytes_per_second": 1}, 1, 1),
            (
                {"messages_per_second": 9, "message_burst": 3}
                | {"bytes_per_second": 9, "byte_burst": "64kB"},
                3,
                64_000,
            ),
        )
        for keys, messages, size in cases:
            found = settled(keys, True)
            self.assertEqual((found.messages_at_once, found.bytes_at_once), (messages, size))

    def test_methods(self) -> None:
        """A WebSocket begins with GET, so that a route without GET has none."""
        route = {"path": "/", "service": "chat", "methods": ["POST"]}
        base = mapping(None)
        problem = "routes[0].methods: no GET, by which WebSockets begin; allowed: GET, too"
        self.assert_problem({**base, "routes": [{**route, "websocket": True}]}, problem)
        self.assert_problem({**base, "routes": [{**route, "websocket": {}}]}, problem)
        for methods, websocket in (("POST", False), ("POST,GET", True), ([], True)):
            keys: dict[str, Any] = {"methods": methods, "websocket": websocket}
            self.assertTrue(from_dict({**base, "routes": [{**route, **keys}]}))


class Values(ConfigTestCase):
    """What each key takes."""

    def test_bounds(self) -> None:
        """Bounds are told in words and units."""
        self.assert_problem(
            mapping(
                {
                    "max_buffered": "1KiB",
                    "max_frame": -1,
                    "messages_per_second": "many",
                    "message_burst": 1.5,
                    "over_rate": "drop",
                    "ping_interval": "1 week",
                    "pong_timeout": 0,
                    "close_timeout": "2h",
                    "lifetime_jitter": 2,
                    "per_ip": True,
                }
            ),
            'websocket.max_buffered: found "1KiB"; '
            "allowed: a size such as 512, 64KiB or 10MiB, at least 16KiB",
            "websocket.max_frame: found -1; allowed: a size such as 512, 64KiB or 10MiB",
            'websocket.messages_per_second: found "many"; allowed: a number from 0 to 1000000',
            "websocket.message_burst: found 1.5; allowed: a whole number from 0 to 1000000",
            'websocket.over_rate: found "drop"; allowed: one of close, pause',
            'websocket.ping_interval: found "1 week"; '
            "allowed: a duration such as 250ms, 30s, 5m or 1h",
            "websocket.pong_timeout: found 0; "
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0",
            'websocket.close_timeout: found "2h"; '
            "allowed: a duration such as 250ms, 30s, 5m or 1h, more than 0, at most 1h",
            "websocket.lifetime_jitter: found 2; allowed: a number from 0 to 1",
            "websocket.per_ip: found true; allowed: a whole number from 0 to 1000000",
        )

    def test_origins(self) -> None:
        """Origins are kept as browsers write them; one, or several with commas, may be text."""
        for given, kept in (
            ("https://App.Example.com:443", "https://app.example.com"),
            ("HTTP://localhost:3000", "http://localhost:3000"),
            ("http://a:443", "http://a:443"),
            ("https://*.Example.com", "https://*.example.com"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
            ("https://[0:0::1]:80", "https://[::1]:80"),
            ("http://10.0.0.1", "http://10.0.0.1"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("null", "null"),
        ):
            self.assertEqual(WebSocket(origins=(given,)).origins, (kept,))
        both = from_dict(mapping({"origins": "https://a, https://b"})).websocket.origins
        self.assertEqual(both, ("https://a", "https://b"))

    def test_bad_origins(self) -> None:
        """What no browser sends is refused, with examples of what one does."""
        for origin in (
            "app.example.com",
            "https://",
            "https://a/",
            "https://a/x",
            "https://a?x",
            "https://u@a",
            "https://a:0",
            "https://a:99999",
            "https://a b",
            "https://a.",
            "https://*",
            "https://a.*.b",
            "https://*a.b",
            "https://*.*.b",
            "https://*.[::1]",
            "https://*.10.0.0.1",
            "https://[::g]",
            "https://é.example",
            "file://",
            "//a",
            5,
        ):
            (problem,) = self.problems(mapping({"origins": [origin]}))
            self.assertTrue(problem.startswith("websocket.origins[0]: found "), problem)
            self.assertTrue(problem.endswith(f"allowed: {ORIGIN}"), problem)

    def test_mistaken_origins(self) -> None:
        """A star alone, and the URL of the WebSocket, are understood and explained."""
        self.assert_problem(
            mapping({"origins": ["*", "wss://app.example.com"]}),
            f"websocket.origins[0]: an empty list allows every origin; allowed: {ORIGIN}",
            f"websocket.origins[1]: an origin is that of a page, http or https; allowed: {ORIGIN}",
        )

    def test_names(self) -> None:
        """Parameters and cookies have names that need no encoding; ``path`` is taken."""
        words = "a name of letters, digits and"
        self.assert_problem(
            mapping({"token_query": "a&b", "token_cookie": "a=b", "origins": "https://a"}),
            f'websocket.token_query: found "a&b"; allowed: {words} . _ ~ -',
            f'websocket.token_cookie: found "a=b"; allowed: {words} characters such as - and _',
        )
        self.assert_problem(
            mapping(None, {"token_query": "path"}, auth=AUTH),
            "routes[0].websocket.token_query: the parameter path says where the WebSocket leads; "
            f"allowed: {words} . _ ~ -",
        )


class BetweenKeys(ConfigTestCase):
    """What does not fit together, judged by what holds on each route."""

    COOKIE = (
        "no origin, but token_cookie: any site could use the cookies of its visitors; "
        f"allowed: at least one; each item {ORIGIN}"
    )

    def test_cookie_needs_origins(self) -> None:
        """A cookie is only taken from pages that are known."""
        cookie = {"token_cookie": "session"}
        origins = {"origins": ["https://a"]}
        self.assert_problem(mapping(cookie, auth=AUTH), f"websocket.origins: {self.COOKIE}")
        self.assert_problem(
            mapping(None, cookie, {**cookie, **origins}, auth=AUTH),
            f"routes[0].websocket.origins: {self.COOKIE}",
        )
        self.assert_problem(
            mapping({**cookie, **origins}, True, {"origins": []}, auth=AUTH),
            f"routes[1].websocket.origins: {self.COOKIE}",
        )
        self.assertEqual(
            settled(origins, cookie), WebSocket(token_cookie="session", origins=("https://a",))
        )

    def test_cookie_and_null(self) -> None:
        """The origin ``null`` is anybody's: a frame in a sandbox has it."""
        words = "the origin null, which any site can have, and token_cookie; allowed: one of them"
        cookie, null = {"token_cookie": "s"}, {"origins": ["https://a", "null"]}
        self.assert_problem(mapping({**cookie, **null}, auth=AUTH), f"websocket.origins: {words}")
        self.assert_problem(
            mapping(null, True, cookie, auth=AUTH), f"routes[1].websocket.token_cookie: {words}"
        )
        self.assert_problem(
            mapping({**cookie, "origins": "https://a"}, null, auth=AUTH),
            f"routes[0].websocket.origins: {words}",
        )

    def test_pings(self) -> None:
        """Instances are pinged when clients are; a route may turn off both by one key."""
        words = "no pings at all, as ping_interval is 0; allowed: a ping_interval above 0"
        up, off = {"ping_upstream": True}, {"ping_interval": 0}
        self.assert_problem(mapping({**up, **off}), f"websocket.ping_upstream: {words}")
        self.assert_problem(mapping(off, up), f"routes[0].websocket.ping_upstream: {words}")
        self.assertTrue(from_dict(mapping(up, off)))
        self.assertTrue(from_dict(mapping({"ping_interval": "1s", "pong_timeout": "1m"})))

    def test_bursts(self) -> None:
        """A burst is one of a rate; a route may turn off both by one key."""
        bursts = {"message_burst": 5, "byte_burst": "1KiB"}
        rates = {"messages_per_second": 1, "bytes_per_second": 1}
        expected = (
            "message_burst: no limit at all, as messages_per_second is 0; "
            "allowed: messages_per_second above 0",
            "byte_burst: no limit at all, as bytes_per_second is 0; "
            "allowed: bytes_per_second above 0",
        )
        self.assert_problem(mapping(bursts), *(f"websocket.{each}" for each in expected))
        self.assert_problem(
            mapping(None, bursts), *(f"routes[0].websocket.{each}" for each in expected)
        )
        self.assertTrue(from_dict(mapping(rates, bursts)))
        off = {"messages_per_second": 0, "bytes_per_second": 0}
        self.assertTrue(from_dict(mapping({**bursts, **rates}, off)))

    def test_tokens_need_auth(self) -> None:
        """A place for a token is no use where none is looked at, and would be passed on."""
        query = {"token_query": "token"}
        jwt = {"jwt": {"secret": SECRET}}
        self.assert_problem(
            mapping(query),
            "websocket.token_query: no token is verified, as there is no auth.jwt",
        )
        words = "no token is looked at, as auth is not required here"
        self.assert_problem(
            mapping(None, query, auth=jwt), f"routes[0].websocket.token_query: {words}"
        )
        route = {"path": "/", "service": "chat", "websocket": query}
        base = mapping(None, auth=AUTH)
        self.assert_problem(
            {**base, "routes": [{**route, "auth": "none"}]},
            f"routes[0].websocket.token_query: {words}",
        )
        for auth, own in ((AUTH, {}), (jwt, {"auth": "required"})):
            self.assertTrue(from_dict({**base, "auth": auth, "routes": [{**route, **own}]}))
        # Where tokens are taken from in general, a public route takes none.
        public = {"path": "/", "service": "chat", "websocket": True, "auth": "none"}
        self.assertTrue(from_dict({**mapping(query, auth=AUTH), "routes": [public]}))

    def test_all_at_once(self) -> None:
        """These rules are told together with everything else; not of a section that is wrong."""
        self.assert_problem(
            mapping(None, {"ping_interval": "0s", "ping_upstream": "true"}, {"max_frame": "x"}, 7),
            'routes[1].websocket.max_frame: found "x"; allowed: a size such as 512, 64KiB or 10MiB',
            "routes[2].websocket: found 7; "
            "allowed: true, false or a mapping with keys of websocket",
            "routes[0].websocket.ping_upstream: no pings at all, as ping_interval is 0; "
            "allowed: a ping_interval above 0",
        )
        self.assert_problem(
            mapping({"per_ip": -1, "message_burst": 1}, {"byte_burst": 1}),
            "websocket.per_ip: found -1; allowed: a whole number from 0 to 1000000",
        )


class Lines(TextTestCase):
    """Where the problems are."""

    def test_lines(self) -> None:
        """Rules point at the line of what is to be changed, or of what is around it."""
        self.assert_problems(
            """
            auth:
              required: true
              jwt:
                secret: ${SECRET}
            services:
              chat: wss://chat
            websocket:
              ping_interval: 0
              origins: [https://a, "*"]
            """,
            "gateway:9: websocket.origins[1]: an empty list allows every origin; "
            f"allowed: {ORIGIN}",
            SECRET=SECRET,
        )
        self.assert_problems(
            """
            auth:
              required: true
              jwt:
                secret: ${SECRET}
            services:
              chat: wss://chat
            websocket:
              ping_interval: 0
            routes:
              - path: /a
                service: chat
                websocket: ${ON}
              - path: /b
                service: chat
                websocket:
                  ping_upstream: true
                  token_cookie: session
            """,
            f"gateway:15: routes[1].websocket.origins: {BetweenKeys.COOKIE}",
            "gateway:16: routes[1].websocket.ping_upstream: no pings at all, as ping_interval is "
            "0; allowed: a ping_interval above 0",
            SECRET=SECRET,
            ON="on",
        )
