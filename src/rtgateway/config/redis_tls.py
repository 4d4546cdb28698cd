"""TLS with Redis and with sentinels, where the gateway may have to show a certificate, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from rtgateway.config.section import Rule, Switchable
from rtgateway.config.services import UpstreamTls
from rtgateway.config.values import FilePath

__all__ = ["RedisTls"]


class RedisTls(UpstreamTls, Switchable):
    """How a server and the gateway prove to each other who they are; `on` and `off` will do."""

    enabled: bool = Field(default=True, description="Whether TLS is spoken.")
    certificate: FilePath | None = Field(
        default=None,
        description="PEM file: the gateway's own certificate, then intermediate ones, for "
        "servers with `tls-auth-clients yes`.",
    )
    key: FilePath | None = Field(
        default=None, description="PEM file: the private key of `certificate`, not encrypted."
    )

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """A certificate is of use only with its key."""
        given = [key for key in ("certificate", "key") if values.get(key) is not None]
        if len(given) == 1:
            yield Rule(f"{given[0]} alone", (given[0],), allowed="certificate and key, or neither")

    @property
    def own(self) -> tuple[Path, Path] | None:
        """Files of the gateway's certificate and its key; None: it shows none."""
        if self.certificate is None or self.key is None:
            return None
        return self.certificate, self.key
