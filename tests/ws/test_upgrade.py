"""Which upgrades are taken, and what is left of them for the instance."""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.origins import Origins
from rtgateway.core.paths import escapes_host, has_dot_segments
from rtgateway.errors import BadRequest, GatewayError
from rtgateway.gateway.exchange import Exchange
from rtgateway.ws.offers import deflate_offers
from rtgateway.ws.upgrade import Terms, Upgrade, read_upgrade
from tests.core.profile import PROPERTY
from tests.ws.asking import KEY, ask, exchange_of, refusal, sent_key, upgrade_of, without

ANY = Terms()
ONLY = Terms(only=True)
BUILT_IN = Terms(only=True, path_in_query=True)
PAGES = Terms(origins=Origins(["https://app.example.com", "https://*.example.org"]))
TOKENS = Terms(takes_token=True, token_query=b"token", token_cookie=b"session")
TOKEN = b"eyJh.eyJz.c2ln"

_VERSION = (b"Sec-WebSocket-Version", b"13")
_OLD = b"Sec-WebSocket-Version: 8"

Row = tuple[str, bytes, Terms, int, str]


def _path(value: bytes) -> bytes:
    return ask(target=b"/ws/users?path=" + value)


REFUSED: list[Row] = [
    # The request itself.
    ("HTTP/1.0", ask(version=b"HTTP/1.0"), ANY, 400, "bad_request"),
    ("HTTP/1.0, only", ask(version=b"HTTP/1.0"), ONLY, 426, "upgrade_required"),
    ("no upgrade, only", without(b"Upgrade"), ONLY, 426, "upgrade_required"),
    ("another upgrade, only", ask(b"Upgrade: h2c"), ONLY, 426, "upgrade_required"),
    ("with a version, only", ask(b"Upgrade: websocket/13"), ONLY, 426, "upgrade_required"),
    ("a POST that is none, only", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", ONLY, 426, "upgrade_req"),
    ("POST", ask(method=b"POST"), ANY, 405, "method_not_allowed"),
    ("HEAD", ask(method=b"HEAD"), ANY, 405, "method_not_allowed"),
    ("OPTIONS", ask(method=b"OPTIONS"), ANY, 405, "method_not_allowed"),
    ("POST with a body", ask(b"Content-Length: 3", method=b"POST"), ANY, 405, "method_not_a"),
    ("no Connection", without(b"Connection"), ANY, 400, "bad_request"),
    ("Connection: close", ask(b"Connection: close"), ANY, 400, "bad_request"),
    ("Connection: keep-alive", ask(b"Connection: keep-alive"), ANY, 400, "bad_request"),
    ("Connection: upgraded", ask(b"Connection: upgraded"), ANY, 400, "bad_request"),
    ("a body", ask(b"Content-Length: 3"), ANY, 400, "bad_request"),
    ("a chunked body", ask(b"Transfer-Encoding: chunked"), ANY, 400, "bad_request"),
    # The version.
    ("no version", without(b"Sec-WebSocket-Version"), ANY, 426, "upgrade_required"),
    ("version 8", ask(_OLD), ANY, 426, "upgrade_required"),
    ("version 14", ask(b"Sec-WebSocket-Version: 14"), ANY, 426, "upgrade_required"),
    ("version 013", ask(b"Sec-WebSocket-Version: 013"), ANY, 426, "upgrade_required"),
    ("versions 13, 8", ask(b"Sec-WebSocket-Version: 13, 8"), ANY, 426, "upgrade_required"),
    ("an empty version", ask(b"Sec-WebSocket-Version:"), ANY, 426, "upgrade_required"),
    ("two versions", ask(*(_OLD.replace(b"8", n) for n in (b"13", b"8"))), ANY, 400, "bad_request"),
    ("13 twice", ask(*[_OLD.replace(b"8", b"13")] * 2), ANY, 400, "bad_request"),
    # The key.
    ("no key", without(b"Sec-WebSocket-Key"), ANY, 400, "bad_request"),
    ("an empty key", ask(b"Sec-WebSocket-Key:"), ANY, 400, "bad_request"),
    ("two keys", ask(*[b"Sec-WebSocket-Key: " + KEY] * 2), ANY, 400, "bad_request"),
    ("joined keys", ask(b"Sec-WebSocket-Key: %b, %b" % (KEY, KEY)), ANY, 400, "bad_request"),
    ("15 bytes", ask(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"), ANY, 400, "bad_request"),
    ("17 bytes", ask(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="), ANY, 400, "bad_request"),
    ("18 bytes", ask(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"), ANY, 400, "bad_request"),
    ("base64url", ask(b"Sec-WebSocket-Key: -_AAAAAAAAAAAAAAAAAAAA=="), ANY, 400, "bad_request"),
    ("a space", ask(b"Sec-WebSocket-Key: AAAAAAAAAA AAAAAAAAAAA=="), ANY, 400, "bad_request"),
    ("no padding", ask(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"), ANY, 400, "bad_request"),
    # The offers.
    ("two of a name", ask(b"Sec-WebSocket-Protocol: a, b, a"), ANY, 400, "bad_request"),
    (
        "two of a name in two fields",
        ask(b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Protocol: a"),
        ANY,
        400,
        "bad_request",
    ),
    ("a name with a space", ask(b"Sec-WebSocket-Protocol: a b"), ANY, 400, "bad_request"),
    ("a name with a slash", ask(b"Sec-WebSocket-Protocol: a/b"), ANY, 400, "bad_request"),
    ("a name in quotes", ask(b'Sec-WebSocket-Protocol: "a"'), ANY, 400, "bad_request"),
    ("a name beyond ASCII", ask(b"Sec-WebSocket-Protocol: caf\xc3\xa9"), ANY, 400, "bad_request"),
    ("no name", ask(b"Sec-WebSocket-Protocol:"), ANY, 400, "bad_request"),
    ("nothing but commas", ask(b"Sec-WebSocket-Protocol: ,,"), ANY, 400, "bad_request"),
    ("no extension", ask(b"Sec-WebSocket-Extensions:"), ANY, 400, "bad_request"),
    ("a nameless extension", ask(b"Sec-WebSocket-Extensions: ;a=1"), ANY, 400, "bad_request"),
    ("a nameless parameter", ask(b"Sec-WebSocket-Extensions: x; =1"), ANY, 400, "bad_request"),
    ("an empty parameter", ask(b"Sec-WebSocket-Extensions: x; a="), ANY, 400, "bad_request"),
    ("a lone semicolon", ask(b"Sec-WebSocket-Extensions: x;"), ANY, 400, "bad_request"),
    ("an open quote", ask(b'Sec-WebSocket-Extensions: x; a="1'), ANY, 400, "bad_request"),
    ("a comma in quotes", ask(b'Sec-WebSocket-Extensions: x; a="1,2"'), ANY, 400, "bad_request"),
    ("two words", ask(b"Sec-WebSocket-Extensions: x y"), ANY, 400, "bad_request"),
    # The origin.
    ("another origin", ask(b"Origin: https://evil.example"), PAGES, 403, "origin_not_allowed"),
    ("another scheme", ask(b"Origin: http://app.example.com"), PAGES, 403, "origin_not_allowed"),
    ("null", ask(b"Origin: null"), PAGES, 403, "origin_not_allowed"),
    ("an empty origin", ask(b"Origin:"), PAGES, 403, "origin_not_allowed"),
    ("two origins", ask(*[b"Origin: https://app.example.com"] * 2), PAGES, 403, "origin_not_a"),
    # The token.
    ("two in the query", ask(target=b"/chat?token=a&token=b"), TOKENS, 400, "bad_request"),
    ("two pairs", ask(b"Sec-WebSocket-Protocol: bearer,a,Bearer,b"), TOKENS, 400, "bad_request"),
    # The path.
    ("two slashes", ask(target=b"//evil.example/"), ANY, 400, "bad_request"),
    ("a backslash", ask(target=b"/\\evil.example/"), ANY, 400, "bad_request"),
    ("an encoded slash", ask(target=b"/%2Fevil.example/"), ANY, 400, "bad_request"),
    ("two paths", _path(b"/x&path=/y"), BUILT_IN, 400, "bad_request"),
    ("no slash", _path(b"x"), BUILT_IN, 400, "bad_request"),
    ("only a query", _path(b"?a"), BUILT_IN, 400, "bad_request"),
    ("another host", _path(b"//evil.example/"), BUILT_IN, 400, "bad_request"),
    ("another host, encoded", _path(b"%2F%2Fevil.example/"), BUILT_IN, 400, "bad_request"),
    ("another host, twice", _path(b"%2F%252Fevil.example/"), BUILT_IN, 400, "bad_request"),
    ("another host, thrice", _path(b"/%25252Fevil.example/"), BUILT_IN, 400, "bad_request"),
    ("another host, backslash", _path(b"/\\evil.example"), BUILT_IN, 400, "bad_request"),
    ("another host, %5C", _path(b"%2F%5Cevil.example"), BUILT_IN, 400, "bad_request"),
    ("a URL", _path(b"wss://evil.example/"), BUILT_IN, 400, "bad_request"),
    ("a URL, encoded", _path(b"wss%3A%2F%2Fevil.example%2F"), BUILT_IN, 400, "bad_request"),
    ("userinfo", _path(b"@evil.example/"), BUILT_IN, 400, "bad_request"),
    ("up", _path(b"/a/../b"), BUILT_IN, 400, "bad_request"),
    ("up, encoded", _path(b"/a/%2e%2e/b"), BUILT_IN, 400, "bad_request"),
    ("up, encoded twice", _path(b"/a/%252e%252e/b"), BUILT_IN, 400, "bad_request"),
    ("a line end", _path(b"/a%0d%0aX:%20y"), BUILT_IN, 400, "bad_request"),
    ("a NUL", _path(b"/a%00"), BUILT_IN, 400, "bad_request"),
    ("a tab in front", _path(b"/%09/evil.example"), BUILT_IN, 400, "bad_request"),
    ("a fragment", _path(b"/a%23b"), BUILT_IN, 400, "bad_request"),
]

TAKEN: list[tuple[str, bytes, Terms]] = [
    ("what browsers send", ask(b"Connection: keep-alive, Upgrade"), ANY),
    ("any case", ask(b"Connection: UPGRADE", b"Upgrade: WebSocket"), ANY),
    ("one of several upgrades", ask(b"Upgrade: h2c, websocket"), ANY),
    ("in two fields", ask(b"Upgrade: h2c", b"Upgrade: websocket"), ANY),
    ("Connection in two fields", ask(b"Connection: upgrade", b"Connection: x-a"), ANY),
    ("no Origin", ask(), PAGES),
    ("an origin", ask(b"Origin: https://App.Example.com:443"), PAGES),
    ("an origin below", ask(b"Origin: https://a.example.org"), PAGES),
    ("any origin", ask(b"Origin: https://evil.example"), ANY),
    ("no length", ask(b"Content-Length: 0"), ANY),
    ("a key with loose bits", ask(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB=="), ANY),
    ("empty elements", ask(b"Sec-WebSocket-Protocol: ,a, ,b,"), ANY),
    ("only and one", ask(), ONLY),
]


class AdmissionTests(SynchronousTestCase):
    def test_refused(self) -> None:
        for name, request, terms, status, code in REFUSED:
            error = refusal(request, terms)
            assert error is not None, name
            self.assertEqual((error.status, error.fault), (status, "client"), name)
            self.assertTrue(error.code.startswith(code), name)
            self.assertEqual(isinstance(error, BadRequest), status == 400, name)

    def test_what_clients_are_told_to_do(self) -> None:
        """426 names the protocol and its version (RFC 9110, 15.5.22), 405 the method."""
        for name, request, terms, status, _ in REFUSED:
            error = refusal(request, terms)
            assert error is not None
            expected: tuple[tuple[bytes, bytes], ...] = ()
            if status == 426:
                expected = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), _VERSION)
            elif status == 405:
                expected = ((b"Allow", b"GET"),)
            self.assertEqual(error.headers, expected, name)

    def test_taken(self) -> None:
        for name, request, terms in TAKEN:
            self.assertIsNone(refusal(request, terms), name)

    def test_no_upgrade_at_all(self) -> None:
        """Where other requests are served, too, they are, and nothing of them is changed."""
        for request in (
            without(b"Upgrade", ask(b"Sec-WebSocket-Protocol: a")),
            ask(b"Upgrade: h2c"),
            ask(b"Upgrade: websockets"),
            ask(b"Upgrade: websocket/13"),
            ask(b"Upgrade:"),
            b"POST /chat?token=a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        ):
            exchange = exchange_of(request)
            head, target, rest = exchange.head, exchange.target, exchange.rest
            self.assertIsNone(read_upgrade(exchange, TOKENS))
            self.assertIs(exchange.head, head)
            self.assertEqual((exchange.target, exchange.rest), (target, rest))


class LinesTests(SynchronousTestCase):
    """What the instance is sent instead of the client's own fields."""

    def test_without_offers(self) -> None:
        _, upgrade = upgrade_of(ask())
        self.assertEqual(
            upgrade.lines,
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: %b\r\n" % sent_key(upgrade),
        )
        self.assertEqual((upgrade.protocols, upgrade.token, upgrade.bearer), ((), None, False))

    def test_key_is_new(self) -> None:
        keys = {sent_key(upgrade_of(ask())[1]) for _ in range(10)}
        self.assertEqual(len(keys | {KEY}), 11)

    def test_offers_to_the_letter(self) -> None:
        """Case, order and parameters as they came; several fields are one list."""
        offer = b'Permessage-Deflate ; server_max_window_bits="10";client_max_window_bits'
        _, upgrade = upgrade_of(
            ask(
                b"Sec-WebSocket-Protocol: Chat.v2,mqtt",
                b"Sec-WebSocket-Extensions: x-webkit-deflate-frame, " + offer,
                b"sec-websocket-protocol: graphql-ws",
                b"Sec-WebSocket-Extensions: permessage-deflate, permessage-bzip2; a=1",
            )
        )
        self.assertIn(b"\r\nSec-WebSocket-Protocol: Chat.v2, mqtt, graphql-ws\r\n", upgrade.lines)
        self.assertTrue(
            upgrade.lines.endswith(
                b"\r\nSec-WebSocket-Extensions: %b, permessage-deflate\r\n" % offer
            ),
            upgrade.lines,
        )
        self.assertEqual(upgrade.protocols, ("Chat.v2", "mqtt", "graphql-ws"))

    def test_only_others(self) -> None:
        """Of extensions whose frames nobody here can read, the instance does not hear."""
        _, upgrade = upgrade_of(ask(b"Sec-WebSocket-Extensions: permessage-bzip2, bbf-usp"))
        self.assertNotIn(b"Extensions", upgrade.lines)

    def test_head(self) -> None:
        """The client's own fields of the handshake are gone, and all others are as they were."""
        exchange, _ = upgrade_of(
            ask(
                b"Sec-WebSocket-Foo: 1",
                b"X-A: \xff\xfe",
                b"Origin: https://a.example",
                b"SEC-WEBSOCKET-PROTOCOL: a",
                b"Cookie: a=1",
                b"x-a: 2",
            )
        )
        self.assertEqual(
            exchange.head.passed_on,
            b"X-A: \xff\xfe\r\nOrigin: https://a.example\r\nCookie: a=1\r\nx-a: 2\r\n",
        )

    @PROPERTY
    @given(st.binary(max_size=40) | st.text('ab=;" \\,', max_size=40).map(str.encode))
    def test_any_extension_list(self, value: bytes) -> None:
        """A list is refused, or what is passed on reads as the same offers again."""
        try:
            offers = deflate_offers([b"permessage-deflate; " + value])
        except BadRequest:
            return
        self.assertEqual(deflate_offers([b", ".join(offers)]), offers)


class TokenTests(SynchronousTestCase):
    """A token is found where it may stand, and goes no further."""

    def assertGone(self, exchange: Exchange, upgrade: Upgrade | None, secret: bytes) -> None:
        places = [exchange.rest, exchange.target, exchange.head.passed_on, exchange.head.target]
        places += [value for _, _, value in exchange.headers]
        places += [repr(part).encode() for part in (exchange, exchange.head, upgrade, TOKENS)]
        if upgrade is not None:
            places.append(upgrade.lines)
        for place in places:
            self.assertNotIn(secret, place)

    def test_places(self) -> None:
        pair = b"Sec-WebSocket-Protocol: chat, bearer, " + TOKEN
        for request, protocols, passed_on in (
            (ask(pair), ("chat",), b""),
            (ask(target=b"/chat?a=1&token=" + TOKEN), (), b""),
            (ask(b"Cookie: a=1; session=" + TOKEN + b"; b=2"), (), b"Cookie: a=1; b=2\r\n"),
            (ask(b"cookie: session=" + TOKEN), (), b""),
        ):
            exchange, upgrade = upgrade_of(request, TOKENS)
            self.assertEqual(upgrade.token, TOKEN)
            self.assertEqual(upgrade.protocols, protocols)
            self.assertEqual(exchange.head.passed_on, passed_on)
            self.assertGone(exchange, upgrade, TOKEN)

    def test_which_counts(self) -> None:
        """Subprotocols before the query before cookies; none of them goes on."""
        cookie = b"Cookie: session=c-1; session=c-2"
        pair = b"Sec-WebSocket-Protocol: bearer, p-1"
        query = b"/chat?token=q-1"
        for request, token in (
            (ask(pair, cookie, target=query), b"p-1"),
            (ask(cookie, target=query), b"q-1"),
            (ask(cookie), b"c-1"),
            (ask(cookie, target=b"/chat?token="), b"c-1"),
            (ask(b"Cookie: session="), None),
            (ask(target=b"/chat?token"), None),
        ):
            exchange, upgrade = upgrade_of(request, TOKENS)
            self.assertEqual(upgrade.token, token)
            for secret in (b"p-1", b"q-1", b"c-1", b"c-2"):
                self.assertGone(exchange, upgrade, secret)

    def test_beside_authorization(self) -> None:
        """Which counts is for others to decide; the other place is emptied all the same."""
        pair = b"Sec-WebSocket-Protocol: bearer, " + TOKEN
        exchange, upgrade = upgrade_of(ask(b"Authorization: Bearer x.y.z", pair), TOKENS)
        self.assertEqual((upgrade.token, upgrade.bearer), (TOKEN, True))
        self.assertGone(exchange, upgrade, TOKEN)
        self.assertEqual(exchange.named[b"authorization"], b"Bearer x.y.z")

    def test_nobody_asks(self) -> None:
        """Where no token is asked for, what looks like one is the instance's."""
        pair = b"Sec-WebSocket-Protocol: bearer, " + TOKEN
        terms = Terms(token_query=b"token", token_cookie=b"session")
        exchange, upgrade = upgrade_of(
            ask(pair, b"Cookie: session=1", target=b"/chat?token=2"), terms
        )
        self.assertEqual(exchange.rest, b"/chat?token=2")
        self.assertEqual(exchange.head.passed_on, b"Cookie: session=1\r\n")
        self.assertEqual(upgrade.protocols, ("bearer", TOKEN.decode()))
        self.assertEqual((upgrade.token, upgrade.bearer), (None, False))

    def test_not_allowed_places(self) -> None:
        exchange, upgrade = upgrade_of(
            ask(b"Cookie: session=1", target=b"/chat?token=2"), Terms(takes_token=True)
        )
        self.assertIsNone(upgrade.token)
        self.assertEqual(exchange.rest, b"/chat?token=2")
        self.assertEqual(exchange.head.passed_on, b"Cookie: session=1\r\n")

    def test_no_pair(self) -> None:
        """The word alone, or at the end, is a subprotocol like any other."""
        for offered in (b"bearer", b"chat, Bearer", b"bearer-token, x"):
            _, upgrade = upgrade_of(ask(b"Sec-WebSocket-Protocol: " + offered), TOKENS)
            self.assertEqual(upgrade.protocols, tuple(offered.decode().split(", ")))
            self.assertEqual((upgrade.token, upgrade.bearer), (None, False))

    def test_gone_though_refused(self) -> None:
        """Whatever is logged of a refusal, the token is not in it."""
        secret = b"s-1"
        for terms, request in (
            (TOKENS, ask(target=b"/chat?token=s-1&token=s-1")),
            (TOKENS, ask(b"Cookie: session=s-1", _OLD, target=b"/chat?token=s-1")),
            (TOKENS, ask(b"Sec-WebSocket-Protocol: bearer, s-1, s-1", target=b"/chat?token=s-1")),
            (TOKENS, without(b"Connection", ask(target=b"/chat?token=s-1"))),
        ):
            exchange = exchange_of(request)
            error = self.assertRaises(GatewayError, read_upgrade, exchange, terms)
            self.assertGone(exchange, None, secret)
            self.assertNotIn(secret, repr((error, error.args, error.headers)).encode())

    _PIECES = st.lists(st.text("ab=%+;/?.tokenS-7", max_size=8).map(str.encode))
    _NAMES = st.sampled_from([b"token", b"%74oken", b"t%6Fken", b"%74%6f%6b%65%6e"])

    @PROPERTY
    @given(_PIECES, st.integers(min_value=0, max_value=9), _NAMES, st.booleans(), st.booleans())
    def test_any_query(
        self, pieces: list[bytes], at: int, name: bytes, there: bool, stripped: bool
    ) -> None:
        """Everything else of a query stays, byte for byte and in its order."""
        for piece in pieces:
            key = unquote_to_bytes(piece.partition(b"=")[0].replace(b"+", b" "))
            assume(key != b"token" and b"S-777" not in piece)
        left = b"&".join(pieces)
        all_pieces = list(pieces)
        if there:
            all_pieces.insert(at, name + b"=S-777%2E.x")
        query = b"&".join(all_pieces)
        exchange = exchange_of(ask(target=b"/v1/chat?" + query))
        if stripped:
            exchange.rest = b"/chat?" + query
        upgrade = read_upgrade(exchange, TOKENS)
        assert upgrade is not None
        behind = b"?" + left if left or not there else b""
        self.assertEqual(exchange.target, b"/v1/chat" + behind)
        self.assertEqual(exchange.rest, (b"/chat" if stripped else b"/v1/chat") + behind)
        self.assertEqual(upgrade.token, b"S-777..x" if there else None)
        self.assertGone(exchange, upgrade, b"S-777")

    _PAIRS = st.lists(st.text('ab= "\t,session', max_size=8).map(str.encode), max_size=5)

    @PROPERTY
    @given(st.lists(_PAIRS, min_size=1, max_size=3), st.integers(0, 5), st.booleans())
    def test_any_cookies(self, fields: list[list[bytes]], at: int, quoted: bool) -> None:
        """Everything else of the cookies stays, byte for byte and in its order."""
        for pair in (pair for pairs in fields for pair in pairs):
            assume(pair.partition(b"=")[0].strip(b" \t") != b"session")
        expected = b""
        lines = []
        for pairs in fields:
            left = b"; ".join(pairs).strip(b" \t")
            put = list(pairs)
            put.insert(at, b'session="S-777"' if quoted else b"session=S-777")
            lines.append(b"Cookie: " + b"; ".join(put))
            if left:
                expected += b"Cookie: %b\r\n" % left
        exchange, upgrade = upgrade_of(ask(*lines), TOKENS)
        self.assertEqual(upgrade.token, b"S-777")
        # Blanks at the edges of a field's value are no part of it (RFC 9110, 5.5).
        kept = [line.rstrip(b" \t;") for line in exchange.head.passed_on.split(b"\r\n")]
        self.assertEqual(kept, [line.rstrip(b" \t;") for line in expected.split(b"\r\n")])
        self.assertGone(exchange, upgrade, b"S-777")

    @PROPERTY
    @given(
        st.lists(st.text("abc.-X", min_size=1, max_size=4), unique=True, max_size=5),
        st.integers(0, 5),
        st.sampled_from(["bearer", "Bearer", "BEARER"]),
        st.booleans(),
    )
    def test_any_subprotocols(self, names: list[str], at: int, word: str, split: bool) -> None:
        """All others are offered on, in their order."""
        put = list(names)
        put[at:at] = [word, "S-777"]
        lines = [", ".join(put)]
        if split:
            lines = put
        exchange, upgrade = upgrade_of(
            ask(*[b"Sec-WebSocket-Protocol: " + line.encode() for line in lines]), TOKENS
        )
        self.assertEqual(upgrade.protocols, tuple(names))
        self.assertEqual((upgrade.token, upgrade.bearer), (b"S-777", True))
        self.assertGone(exchange, upgrade, b"S-777")


class PathInQueryTests(SynchronousTestCase):
    """``?path=``: where to at the instance."""

    def test_paths(self) -> None:
        for query, rest in (
            (b"", b"/"),
            (b"?", b"/"),
            (b"?path", b"/"),
            (b"?path=", b"/"),
            (b"?path=/", b"/"),
            (b"?path=/chat/room", b"/chat/room"),
            (b"?path=%2Fchat%2Froom", b"/chat/room"),
            (b"?p%61th=/chat", b"/chat"),
            (b"?path=/chat&a=1&b=%20&a=2", b"/chat?a=1&b=%20&a=2"),
            (b"?a=1&path=/chat&b", b"/chat?a=1&b"),
            (b"?a=1", b"/?a=1"),
            (b"?path=/chat%3Fx%3D1", b"/chat?x=1"),
            (b"?path=/chat?x=1", b"/chat?x=1"),
            (b"?path=/chat%3Fx%3D1&a=1", b"/chat?x=1&a=1"),
            (b"?path=/chat%3F&a=1", b"/chat?a=1"),
            (b"?path=/chat%3Fx%26&a=1", b"/chat?x&a=1"),
            (b"?path=/a%20b+c", b"/a%20b%20c"),
            (b"?path=/caf%C3%A9", b"/caf%C3%A9"),
            (b"?path=/a%2520b", b"/a%20b"),
            (b"?path=/a%252Fb", b"/a%2Fb"),
            (b"?path=/100%25", b"/100%25"),
            (b"?path=/100%25zz", b"/100%25zz"),
            (b"?path=/a%2Bb%22%7B", b"/a+b%22%7B"),
            (b"?path=/a//b/https://x/", b"/a//b/https://x/"),
            (b"?path=/a:b@c;d=e,f", b"/a:b@c;d=e,f"),
            (b"/chat", b"/chat"),
            (b"/chat/room?a=1", b"/chat/room?a=1"),
        ):
            target = b"/ws/users" + query
            exchange, _ = upgrade_of(ask(target=target), BUILT_IN)
            self.assertEqual(exchange.rest, rest, query)
            self.assertEqual(exchange.target, target)

    def test_with_a_token(self) -> None:
        terms = Terms(takes_token=True, token_query=b"token", only=True, path_in_query=True)
        exchange, upgrade = upgrade_of(ask(target=b"/ws/users?token=S-7&path=/x&a=1"), terms)
        self.assertEqual((exchange.rest, upgrade.token), (b"/x?a=1", b"S-7"))
        self.assertEqual(exchange.target, b"/ws/users?path=/x&a=1")

    @PROPERTY
    @given(
        st.binary(max_size=24) | st.text("/\\.%2fF5cCeE:?#;ab\t\n ", max_size=24).map(str.encode),
        st.booleans(),
    )
    def test_any_path(self, value: bytes, slash: bool) -> None:
        """It is refused, or it is a target of the instance's that means what was asked for."""
        value = b"/" + value if slash else value
        query = b"path=" + quote_from_bytes(value, safe="").encode()
        exchange = exchange_of(ask(target=b"/ws/users?" + query + b"&a=%2e%2e"))
        try:
            read_upgrade(exchange, BUILT_IN)
        except BadRequest:
            return
        path, _, behind = exchange.rest.partition(b"?")
        self.assertRegex(exchange.rest, rb"\A/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*\Z")
        self.assertFalse(escapes_host(path) or has_dot_segments(path))
        self.assertTrue(behind.endswith(b"a=%2e%2e"))
        asked = value.partition(b"?")[0] or b"/"
        self.assertEqual(unquote_to_bytes(path), unquote_to_bytes(asked))
