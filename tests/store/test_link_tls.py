"""TLS with Redis and with Sentinels: who they are, and who the gateway is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import pytest_twisted
import trustme

from rtgateway import config
from rtgateway.net.tls import CertificateFileError
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.link import Link
from rtgateway.testing.redis import RedisServer, StartRedis, Watched, speaks_tls
from rtgateway.testing.waiting import eventually, the_reactor
from tests.store.conftest import MakeLink
from tests.store.links import port_of, settled, why_not

SECRET = "s3cret/word"
ASKS = ["tls-auth-clients yes"]
needs_tls = pytest.mark.skipif(not speaks_tls(), reason="the server was built without TLS")


class Files(NamedTuple):
    """Certificates and keys.

    :ivar server: a certificate for ``redis.test`` and its key, and the authority.
    :ivar own: the gateway's, of an intermediate authority.
    :ivar stranger: one of an authority that nobody knows.
    """

    server: tuple[Path, Path, Path]
    own: tuple[Path, Path]
    stranger: tuple[Path, Path]

    @property
    def authority(self) -> Path:
        return self.server[2]

    def tls(self, own: tuple[Path, Path] | None = None, **more: Any) -> dict[str, Any]:
        """Settings that verify the server, and show a certificate."""
        settings = {"ca": str(self.authority), "server_name": "redis.test", **more}
        if own is not None:
            settings |= {"certificate": str(own[0]), "key": str(own[1])}
        return settings


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    place = tmp_path_factory.mktemp("tls")

    def pair(authority: trustme.CA, name: str) -> tuple[Path, Path]:
        leaf = authority.issue_cert(name)
        paths = place / f"{name}.pem", place / f"{name}.key"
        paths[0].write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(paths[1])
        return paths

    root = trustme.CA()
    root.cert_pem.write_to_path(place / "ca.pem")
    return Files(
        (*pair(root, "redis.test"), place / "ca.pem"),
        pair(root.create_child_ca(), "gateway.test"),
        pair(trustme.CA(), "stranger.test"),
    )


@needs_tls
@pytest_twisted.ensureDeferred
async def test_tls(start_redis: StartRedis, make_link: MakeLink, files: Files) -> None:
    server = start_redis(tls=files.server, password=SECRET)
    assert server.url.startswith("rediss://")
    verified = {"ca": str(files.authority), "server_name": "redis.test"}
    heard: list[bytes] = []
    link = make_link(server, tls=verified)
    link.subscribe(b"events", heard.append)
    await eventually(lambda: link.up and "not yet" not in repr(link._subscriber))
    answers = [link.ask("ECHO", b"x" * n) for n in range(0, 60_000, 3000)]
    assert [len(await answer) for answer in answers] == list(range(0, 60_000, 3000))
    await link.ask("PUBLISH", b"events", b"y")
    await eventually(lambda: heard == [b"y"])
    unverified = make_link(server, tls={"verify": False})
    await eventually(lambda: unverified.up)
    other_name = make_link(server, tls={"ca": str(files.authority)})
    assert "not for this name" in await why_not(other_name)
    unknown = make_link(server, tls={"server_name": "redis.test"})
    assert "certificate verify failed" in await why_not(unknown)


@needs_tls
@pytest_twisted.ensureDeferred
async def test_tls_that_is_stopped(
    start_redis: StartRedis, make_link: MakeLink, files: Files
) -> None:
    server = start_redis(tls=files.server)
    link = make_link(server, tls={"verify": False})
    await eventually(lambda: link.up)
    server.pause()
    for _ in range(3):
        with pytest.raises(StoreError) as caught:
            await link.ask("PING")
        assert caught.value.reason == "timeout"
    assert not link.up
    server.resume()
    await eventually(lambda: link.up)


def test_a_file_of_authorities_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    settings = config.State.model_validate(
        {"url": "rediss://127.0.0.1:1", "tls": {"ca": str(tmp_path / "ca.pem")}}
    )
    with pytest.raises(CertificateFileError):
        Link(settings, the_reactor(), Random(1).random)


# -- the gateway's own certificate ----------------------------------------------------------------


@needs_tls
@pytest_twisted.ensureDeferred
async def test_a_server_that_asks_for_a_certificate(
    start_redis: StartRedis, make_link: MakeLink, files: Files
) -> None:
    server = start_redis(tls=files.server, options=ASKS)
    for tls in (files.tls(files.own), files.tls(files.own, verify=False)):
        link = make_link(server, tls=tls)
        link.subscribe(b"events", lambda payload: None)
        await eventually(partial(settled, link))
        assert await link.ask("PING") == b"PONG"
    without = make_link(server, tls=files.tls())
    assert (await why_not(without)).startswith("TLS: tlsv13 alert certificate required")
    stranger = make_link(server, tls=files.tls(files.stranger))
    assert "unknown ca" in await why_not(stranger)


@pytest.mark.parametrize("verify", [True, False])
def test_files_that_can_not_be_used(files: Files, tmp_path: Path, verify: bool) -> None:
    """Told when the gateway starts, and by their names."""
    junk = tmp_path / "junk.pem"
    junk.write_text("nothing")
    (certificate, key), (_, other) = files.own, files.stranger
    for own, words in (
        ((junk, key), "junk.pem has no usable certificate"),
        ((certificate, junk), "junk.pem has no usable private key"),
        ((certificate, other), "gateway.test.pem can't be used with .*stranger.test.key: .*match"),
    ):
        tls = {"verify": verify, "certificate": str(own[0]), "key": str(own[1])}
        for section in (
            {"url": "rediss://127.0.0.1:1", "tls": tls},
            {"sentinel": {"nodes": "127.0.0.1", "tls": tls}},
        ):
            with pytest.raises(CertificateFileError, match=words):
                Link(config.State.model_validate(section), the_reactor(), Random(1).random)


# -- Sentinels ------------------------------------------------------------------------------------


def with_certificate(files: Files) -> list[str]:
    """Options of a Sentinel that speaks TLS with Redis only."""
    certificate, key, authority = files.server
    return [
        "tls-replication yes",
        f"tls-cert-file {certificate}",
        f"tls-key-file {key}",
        f"tls-ca-cert-file {authority}",
    ]


async def sentinel_of(start_redis: StartRedis, master: RedisServer, **how: Any) -> dict[str, Any]:
    """The settings that name a Sentinel which knows the master."""
    sentinel = start_redis(sentinel=Watched("limits", master), **how)
    await eventually(lambda: b"master" in _state(sentinel))
    return {"nodes": [f"127.0.0.1:{sentinel.port}"], "master": "limits"}


def _state(sentinel: RedisServer) -> bytes:
    """``master`` once it has spoken to it; before, or when it can't, there is more."""
    fields = sentinel.command("SENTINEL", "MASTER", "limits")
    flags: bytes = dict(zip(fields[::2], fields[1::2], strict=True))[b"flags"]
    return flags


@needs_tls
@pytest_twisted.ensureDeferred
async def test_tls_with_the_master_only(
    start_redis: StartRedis, make_link: MakeLink, files: Files
) -> None:
    master = start_redis(tls=files.server, options=ASKS)
    sentinel = await sentinel_of(start_redis, master, options=with_certificate(files))
    link = make_link(None, sentinel={**sentinel, "tls": False}, tls=files.tls(files.own))
    await eventually(lambda: link.up)
    assert await port_of(link) == master.port
    both = make_link(None, sentinel=sentinel, tls=files.tls(files.own))
    assert "the sentinel at" in await why_not(both)


@needs_tls
@pytest_twisted.ensureDeferred
async def test_tls_with_the_sentinel_only(
    start_redis: StartRedis, make_link: MakeLink, files: Files
) -> None:
    master = start_redis()
    sentinel = await sentinel_of(start_redis, master, tls=files.server, options=ASKS)
    link = make_link(None, sentinel={**sentinel, "tls": files.tls(files.own)})
    await eventually(lambda: link.up)
    assert await port_of(link) == master.port
    without = make_link(None, sentinel={**sentinel, "tls": files.tls()})
    assert "certificate required" in await why_not(without)


@needs_tls
@pytest_twisted.ensureDeferred
async def test_tls_with_both(start_redis: StartRedis, make_link: MakeLink, files: Files) -> None:
    master = start_redis(tls=files.server, options=ASKS)
    how = {"tls": files.server, "options": [*ASKS, "tls-replication yes"]}
    sentinel = await sentinel_of(start_redis, master, **how)
    link = make_link(None, sentinel=sentinel, tls=files.tls(files.own))
    await eventually(lambda: link.up)
    assert await port_of(link) == master.port
    # Each may have a certificate of its own.
    other = files.tls(files.stranger)
    stranger = make_link(None, sentinel={**sentinel, "tls": other}, tls=files.tls(files.own))
    assert "unknown ca" in await why_not(stranger)
