"""TLS: the certificate follows the server name, files can be replaced, mistakes are explained."""

from __future__ import annotations

# mypy: allow-untyped-calls
import socket
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import (
    CertificateBuilder,
    DNSName,
    Name,
    NameAttribute,
    SubjectAlternativeName,
    load_der_x509_certificate,
)
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThreadPool
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Certificate, Listener, Tls, UpstreamTls
from rtgateway.net.gate import Gate
from rtgateway.net.listen import ListenError, listen
from rtgateway.net.reactor import EpollReactor
from rtgateway.net.tls import CertificateFileError, ServerCertificates, client_tls
from tests.net.loop import LoopTestCase, Recorder, on_loop
from tests.net.wires import authority, certificate


class Files:
    """Certificates in files of a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def issue(self, *names: str, as_: str = "", show_for: tuple[str, ...] = ()) -> Certificate:
        chain, key = certificate(*names)
        stem = as_ or names[0].replace("*", "any")
        paths = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        paths[0].write_bytes(chain)
        paths[1].write_bytes(key)
        return Certificate(certificate=paths[0], key=paths[1], names=show_for)


class TlsTests(LoopTestCase):
    reactor_class = EpollReactor

    def setUp(self) -> None:
        self.files = Files(Path(self.temporary("x")).parent)

    def serve(
        self, *certificates: Certificate, min_version: Any = "1.2", reload: Any = None
    ) -> Any:
        self.server = Recorder()
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda _: self.server  # type: ignore[method-assign, assignment]
        tls = Tls(certificates=certificates, min_version=min_version)
        listener = Listener(tcp="127.0.0.1:0", tls=tls)
        return listen(listener, factory, self.reactor, Gate(10, 10), certificates=reload)

    def handshake(self, port: Any, name: str | None, **options: Any) -> Deferred[dict[str, Any]]:
        """Connect as a browser would; tell the names in the certificate, version and protocol."""
        number = port.getHost().port

        def blocking() -> dict[str, Any]:
            context = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
            context.check_hostname = False
            context.set_alpn_protocols(options.get("alpn", ["h2", "http/1.1"]))
            if "at_most" in options:
                context.maximum_version = options["at_most"]
            with (
                socket.create_connection(("127.0.0.1", number), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname=name) as secure,
            ):
                der = secure.getpeercert(binary_form=True)
                assert der is not None
                shown = load_der_x509_certificate(der)
                found = shown.extensions.get_extension_for_class(SubjectAlternativeName)
                return {
                    "names": found.value.get_values_for_type(DNSName),
                    "version": secure.version(),
                    "protocol": secure.selected_alpn_protocol(),
                }

        pool = self.reactor.getThreadPool()
        return deferToThreadPool(self.reactor, pool, blocking)

    async def shown(self, port: Any, name: str | None) -> list[str]:
        names: list[str] = (await self.handshake(port, name))["names"]
        await self.server.lost
        self.server.lost = Deferred()
        return names

    @on_loop
    async def test_the_certificate_follows_the_server_name(self) -> None:
        port = self.serve(
            self.files.issue("default.test"),
            self.files.issue("api.test", "www.api.test"),
            self.files.issue("*.wild.test"),
            self.files.issue("inside.test", show_for=("outside.test",)),
        )
        for asked, shown in (
            ("default.test", "default.test"),
            ("api.test", "api.test"),
            ("WWW.Api.Test", "api.test"),
            ("one.wild.test", "*.wild.test"),
            ("two.one.wild.test", "default.test"),
            ("wild.test", "default.test"),
            ("outside.test", "inside.test"),
            ("inside.test", "default.test"),
            ("unknown.test", "default.test"),
            (None, "default.test"),
        ):
            self.assertIn(shown, await self.shown(port, asked), asked)
        await port.stopListening()

    @on_loop
    async def test_http_1_1_is_agreed_on(self) -> None:
        port = self.serve(self.files.issue("gateway.test"))
        found = await self.handshake(port, "gateway.test")
        self.assertEqual((found["version"], found["protocol"]), ("TLSv1.3", "http/1.1"))
        await self.server.lost
        await port.stopListening()

    @on_loop
    async def test_a_client_that_offers_only_other_protocols_is_refused(self) -> None:
        """RFC 7301, 3.2."""
        port = self.serve(self.files.issue("gateway.test"))
        with self.assertRaises(ssl.SSLError):
            await self.handshake(port, "gateway.test", alpn=["h2"])
        await self.server.lost
        await port.stopListening()

    @on_loop
    async def test_the_minimum_version_holds(self) -> None:
        old = {"at_most": ssl.TLSVersion.TLSv1_2}
        port = self.serve(self.files.issue("gateway.test"))
        found = await self.handshake(port, "gateway.test", **old)
        self.assertEqual(found["version"], "TLSv1.2")
        await self.server.lost
        await port.stopListening()
        port = self.serve(self.files.issue("gateway.test"), min_version="1.3")
        with self.assertRaises(ssl.SSLError):
            await self.handshake(port, "gateway.test", **old)
        await self.server.lost
        await port.stopListening()

    @on_loop
    async def test_the_protocol_can_tell_that_it_is_secure(self) -> None:
        port = self.serve(self.files.issue("gateway.test"))
        await self.shown(port, "gateway.test")
        self.assertTrue(ISSLTransport.providedBy(self.server.transport))
        await port.stopListening()

    @on_loop
    async def test_reloading_shows_new_certificates_and_keeps_the_old_ones_if_they_are_bad(
        self,
    ) -> None:
        tls = Tls(certificates=(self.files.issue("old.test", as_="file"),))
        certificates = ServerCertificates(tls)
        port = self.serve(*tls.certificates, reload=certificates)
        self.assertEqual(await self.shown(port, None), ["old.test"])
        self.files.issue("new.test", as_="file")
        self.assertEqual(await self.shown(port, None), ["old.test"])
        certificates.reload()
        self.assertEqual(await self.shown(port, None), ["new.test"])
        (self.files.folder / "file.pem").write_text("half a certif")
        with self.assertRaises(CertificateFileError):
            certificates.reload()
        self.assertEqual(await self.shown(port, None), ["new.test"])
        await port.stopListening()

    @on_loop
    async def test_somebody_who_speaks_no_tls_is_turned_away(self) -> None:
        port = self.serve(self.files.issue("gateway.test"))
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as plain:
            plain.send(b"GET / HTTP/1.1\r\n\r\n")
            await self.server.lost
        self.assertEqual(self.server.received, b"")
        await port.stopListening()


class CertificateFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.files = Files(Path(folder.name))
        self.good = self.files.issue("gateway.test")

    def refused(self) -> str:
        with self.assertRaises(CertificateFileError) as caught:
            ServerCertificates(Tls(certificates=(self.good,)))
        return str(caught.exception)

    def test_what_it_is_for_is_seen(self) -> None:
        certificates = ServerCertificates(Tls(certificates=(self.good,)))
        self.assertEqual(repr(certificates), "<ServerCertificates for gateway.test>")

    def test_a_file_without_a_certificate(self) -> None:
        self.good.certificate.write_text("nothing")
        self.assertIn(f"{self.good.certificate} has no usable certificate", self.refused())

    def test_a_file_without_a_key(self) -> None:
        self.good.key.write_text("nothing")
        self.assertIn(f"{self.good.key} has no usable private key", self.refused())

    def test_a_file_that_is_gone(self) -> None:
        self.good.key.unlink()
        self.assertEqual(
            self.refused(), f"{self.good.key} can't be read: No such file or directory"
        )

    def test_the_key_of_another_certificate(self) -> None:
        self.good.key.write_bytes(certificate("other.test")[1])
        self.assertEqual(
            self.refused(), f"{self.good.key} is not the key of {self.good.certificate}"
        )

    def test_a_key_with_a_password(self) -> None:
        """Nobody is asked for it at a terminal."""
        key = load_pem_private_key(self.good.key.read_bytes(), None)
        locked = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        self.good.key.write_bytes(locked)
        self.assertIn(f"{self.good.key} has no usable private key", self.refused())

    def test_a_key_too_weak_for_openssl(self) -> None:
        key = generate_private_key(65537, 1024)
        name = Name([NameAttribute(NameOID.COMMON_NAME, "weak.test")])
        now = datetime.now(UTC)
        builder = CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
        pem = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
        self.good.certificate.write_bytes(pem)
        self.good.key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        self.assertEqual(
            self.refused(),
            f"{self.good.certificate} can't be used with {self.good.key}: EE_KEY_TOO_SMALL",
        )

    def test_a_listener_says_the_same(self) -> None:
        listener = Listener(tcp="127.0.0.1:0", tls=Tls(certificates=(self.good,)))
        self.good.key.write_bytes(certificate("other.test")[1])
        with self.assertRaises(ListenError) as caught:
            listen(listener, Factory(), EpollReactor.__new__(EpollReactor), Gate(1, 1))
        self.assertIn("is not the key of", str(caught.exception))

    def test_authorities_that_are_none(self) -> None:
        authorities = self.files.folder / "ca.pem"
        authorities.write_text("nothing")
        with self.assertRaises(CertificateFileError):
            client_tls(UpstreamTls(ca=authorities), "gateway.test")
