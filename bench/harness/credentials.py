"""What the run needs to be believed: a P-256 certificate for 127.0.0.1 and a signed HS256 token."""

import base64
import hashlib
import hmac
import json
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Paths of a self-signed certificate and its key, PEM."""

    chain: Path
    key: Path


def self_signed(directory: Path) -> Certificate | None:
    """Make a P-256 certificate in `directory`; None when there is no openssl to make it with."""
    if shutil.which("openssl") is None:
        return None
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-out", str(made.chain), "-keyout", str(made.key)]
    subprocess.run(["openssl", *arguments.split(), *names, *files], check=True, capture_output=True)
    return made


def new_secret() -> str:
    return secrets.token_hex(32)


def token(secret: str, *, lifetime: float = 86400.0) -> str:
    """A JWT as an identity provider would issue it: HS256, subject, issued-at, expiry."""
    now = int(time.time())
    claims = {"sub": "bench", "iat": now, "exp": now + int(lifetime)}
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{_base64(digest)}"


def _part(value: dict[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
