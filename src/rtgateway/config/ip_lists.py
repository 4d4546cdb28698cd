"""Addresses that are let in whatever their limits, and addresses that are not let in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from rtgateway.config.section import Rule, Section, refused
from rtgateway.config.units import format_size
from rtgateway.config.values import FilePath, NetworkText, network_text, one_or_many

__all__ = ["IpLists", "read_networks"]

_MOST = 100_000
"""Networks of each list, those of its file included."""
_LARGEST = 8 << 20
"""Bytes of a file: room for as many, each with a comment."""
_FILE_WORDS = "one address or network on each line; # begins a comment"


def read_networks(path: Path) -> tuple[str, ...]:
    """The networks in a file, one on each line; empty lines and ``# comments`` don't count.

    :raises PydanticCustomError: with the first line that is something else.
    :raises OSError: it can't be read.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise refused(message=f"{path} is too large", allowed=f"at most {format_size(_LARGEST)}")
    networks: list[str] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        text = line.partition(b"#")[0].strip().decode("utf-8", "replace")
        if not text:
            continue
        try:
            networks.append(network_text(text))
        except PydanticCustomError as error:
            allowed = (error.context or {})["allowed"]
            # The line is not repeated: another file may have been named, one with a secret.
            message = f"{path}, line {number}, is no network"
            raise refused(message=message, allowed=allowed) from None
    if len(networks) > _MOST:
        raise refused(message=f"{path} has {len(networks)} networks", allowed=f"at most {_MOST}")
    return tuple(networks)


def _holds_networks(path: Path) -> Path:
    try:
        read_networks(path)
    except OSError as error:
        message = f"{path} can't be read: {error.strerror or type(error).__name__}"
        raise refused(message=message, allowed=_FILE_WORDS) from None
    return path


def _status(value: Any) -> Any:
    return int(value) if value in ("403", "429") else value


_Networks = Annotated[tuple[NetworkText, ...], BeforeValidator(one_or_many)]
_NetworkFile = Annotated[FilePath, AfterValidator(_holds_networks)]


class IpLists(Section):
    """Addresses that limiters never count, and addresses that get nothing at all.

    An address on both lists is let in. More can be listed while the gateway runs.
    """

    plural: ClassVar[str] = "lists"

    allow: _Networks = Field(
        default=(), description="Let in, without limits; addresses and networks."
    )
    deny: _Networks = Field(default=(), description="Not let in.")
    allow_file: _NetworkFile | None = Field(
        default=None,
        description="File with more of `allow`: one on each line, `#` begins a comment; at most "
        "100,000.",
    )
    deny_file: _NetworkFile | None = Field(default=None, description="The same for `deny`.")
    only_allowed: bool = Field(
        default=False, description="Let nobody in but who is on the list `allow`."
    )
    deny_status: Annotated[Literal[403, 429], BeforeValidator(_status)] = Field(
        default=403, description="What the others are answered."
    )

    _allowed: tuple[str, ...] = PrivateAttr(default=())
    _denied: tuple[str, ...] = PrivateAttr(default=())

    def model_post_init(self, context: Any, /) -> None:
        """Put lists and files together; the files are read once, here."""
        self._allowed = _with_file(self.allow, self.allow_file)
        self._denied = _with_file(self.deny, self.deny_file)

    @property
    def allowed(self) -> tuple[str, ...]:
        """All networks of ``allow`` and its file, normalised, each once."""
        return self._allowed

    @property
    def denied(self) -> tuple[str, ...]:
        """All networks of ``deny`` and its file, normalised, each once."""
        return self._denied

    @classmethod
    def rules(cls, values: Mapping[str, Any]) -> Iterator[Rule]:
        """Somebody may come in."""
        for key in ("allow", "deny"):
            networks = values.get(key)
            if isinstance(networks, list | tuple) and len(networks) > _MOST:
                yield Rule("", (key,), f"{len(networks)} networks", f"at most {_MOST}")
        known = values.get("allow") or values.get("allow_file") is not None
        if values.get("only_allowed") is True and not known:
            message = "nobody could come in: there is neither allow nor allow_file"
            yield Rule(message, ("only_allowed",), allowed="at least one network to let in")


def _with_file(networks: tuple[str, ...], path: Path | None) -> tuple[str, ...]:
    more = read_networks(path) if path is not None else ()
    return tuple(dict.fromkeys((*networks, *more)))
