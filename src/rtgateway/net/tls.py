"""TLS: certificates shown to clients, chosen by server name, and how servers are verified.

`ServerCertificates` lives as long as its listener; `ServerCertificates.reload` reads the files
again, for connections made from then on. Clients are served with the standard library's TLS,
which costs a quarter of pyOpenSSL's per message (`net.secure`); instances are verified by
Twisted's, with pyOpenSSL. ALPN offers ``http/1.1`` on both sides.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet import interfaces
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

from rtgateway import config

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["ALPN", "CertificateFileError", "ServerCertificates", "client_tls"]

ALPN = b"http/1.1"
"""What is spoken inside TLS (RFC 7301, 6)."""
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class CertificateFileError(Exception):
    """A certificate or key can't be used. The text is a sentence that names the file."""


class ServerCertificates:
    """The certificates of a listener.

    :raises CertificateFileError: when one can't be read, or does not belong to its key.
    """

    def __init__(self, settings: config.Tls) -> None:
        self._settings = settings
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.reload()

    def reload(self) -> None:
        """Read all files again. If one is bad, everything stays as it was.

        :raises CertificateFileError: as above.
        """
        contexts: dict[str, ssl.SSLContext] = {}
        default = None
        for certificate in self._settings.certificates:
            context, names = self._load(certificate)
            default = default or context
            for name in names:
                contexts.setdefault(name, context)
        assert default is not None, "a listener with TLS has a certificate"
        self._default = default
        self._contexts = contexts

    def context_for(self, name: str) -> ssl.SSLContext:
        """The context for a server name, in lower case; an unknown or empty one gets the default.

        RFC 6066, 3. A context has its own keys for session tickets.
        """
        exact = self._contexts.get(name)
        if exact is not None:
            return exact
        # RFC 9525, 6.3: a wildcard stands for the whole leftmost label and for nothing else.
        return self._contexts.get("*." + name.partition(".")[2], self._default)

    def _load(self, certificate: config.Certificate) -> tuple[ssl.SSLContext, Sequence[str]]:
        leaf = _read_chain(certificate.certificate)[0]
        _read_key(certificate.key)
        # Ciphers are those of the standard library: authenticated, with forward secrecy.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._settings.min_version]
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols([ALPN.decode("ascii")])
        try:
            # A password, even an empty one, keeps OpenSSL from asking for it at the terminal.
            context.load_cert_chain(certificate.certificate, certificate.key, password="")
        except ssl.SSLError as error:
            raise CertificateFileError(_why(certificate, error)) from None
        return context, [name.lower() for name in certificate.names] or _names(leaf)

    def __repr__(self) -> str:
        return f"<ServerCertificates for {', '.join(self._contexts) or 'any name'}>"


def client_tls(
    settings: config.UpstreamTls, host: str, own: tuple[Path, Path] | None = None
) -> interfaces.IOpenSSLClientConnectionCreator:
    """How to speak TLS with a server at ``host``. Make it once, use it often.

    :param own: files of a certificate chain and its key, to show to servers that want one.
    :raises CertificateFileError: when a file can't be used.
    """
    name = settings.server_name or host
    shown = {} if own is None else _shown(*own)
    if not settings.verify:
        return _Unverified(name, shown)
    trust = platformTrust()
    if settings.ca is not None:
        authorities = [Certificate(X509.from_cryptography(one)) for one in _read_chain(settings.ca)]
        trust = trustRootFromCertificates(authorities)
    return optionsForClientTLS(
        name, trustRoot=trust, acceptableProtocols=[ALPN], extraCertificateOptions=shown
    )


@implementer(interfaces.IOpenSSLClientConnectionCreator)
class _Unverified:
    """Encrypts, and believes whoever answers."""

    def __init__(self, name: str, shown: dict[str, Any]) -> None:
        # RFC 6066, 3: addresses are not server names.
        is_address = isIPAddress(name) or isIPv6Address(name)
        self._server_name = None if is_address else name.encode("idna")
        self._options = CertificateOptions(acceptableProtocols=[ALPN], **shown)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = self._options.clientConnectionForTLS(tlsProtocol)
        if self._server_name is not None:
            connection.set_tlsext_host_name(self._server_name)
        return connection


def _shown(certificate: Path, key: Path) -> dict[str, Any]:
    """The arguments of `CertificateOptions` that show a certificate."""
    leaf, *rest = _read_chain(certificate)
    private = _read_key(key)
    # Contexts are made when something is connected: what is wrong should be known now.
    context = SSL.Context(SSL.TLS_METHOD)
    try:
        context.use_certificate(leaf)
        context.use_privatekey(private)
        context.check_privatekey()
    except SSL.Error as error:
        why = error.args[0][-1][-1]
        raise CertificateFileError(f"{certificate} can't be used with {key}: {why}") from None
    return {"privateKey": private, "certificate": leaf, "extraCertChain": rest}


def _why(certificate: config.Certificate, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{certificate.key} is not the key of {certificate.certificate}"
    return f"{certificate.certificate} can't be used with {certificate.key}: {error.reason}"


def _names(certificate: x509.Certificate) -> Sequence[str]:
    """The DNS names in a certificate. RFC 9525, 2: the common name is not one of them."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in found.value.get_values_for_type(x509.DNSName)]


def _read_chain(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise CertificateFileError(f"{path} has no usable certificate: {error}") from None


def _read_key(path: Path) -> Any:
    try:
        return load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise CertificateFileError(f"{path} has no usable private key: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateFileError(f"{path} can't be read: {error.strerror}") from None
