"""Instances listed in a file that somebody keeps up to date, in YAML or JSON.

The file is looked at every ``interval``, and read when it is another one or was changed. That
happens on the reactor's thread: a megabyte takes a few milliseconds, and more is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic import ValidationError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from rtgateway import config
from rtgateway.config.document import MAX_BYTES
from rtgateway.config.problems import key_path, show
from rtgateway.config.yaml_document import read_yaml
from rtgateway.net.log import Logger
from rtgateway.upstream.findings import MOST_INSTANCES, Findings, Found, OnFound

__all__ = ["FileDiscovery"]

log = Logger()

_SHAPE = 'a list of URLs and mappings with "url", or {"instances": [...]} around it'


class _Unusable(Exception):
    """The file does not say what the instances are. The text says why."""


class FileDiscovery:
    """See the module."""

    def __init__(
        self, settings: config.FileDiscovery, found: OnFound, reactor: IReactorTime
    ) -> None:
        self._path = settings.path
        self._interval = settings.interval
        self._findings = Findings(f"file {settings.path}", found, reactor)
        self._seen: tuple[int, ...] | None = None
        self._settled = False
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def start(self) -> None:
        """Read the file, and look at it from time to time."""
        self._looking.start(self._interval, now=True).addErrback(
            lambda reason: log.failure("Looking at a file has ended", reason)
        )

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()

    def describe(self) -> dict[str, object]:
        """See `Findings.describe`."""
        return self._findings.describe()

    def _look(self) -> None:
        try:
            if self._changed():
                self._findings.good(_instances(self._read(), self._path.suffix.lower()))
        except _Unusable as error:
            self._findings.bad(str(error))
        except OSError as error:
            self._seen = None
            self._findings.bad(f"can't be read: {error.strerror or type(error).__name__}")

    def _changed(self) -> bool:
        """Whether the file has to be read."""
        now = self._path.stat()
        if not stat.S_ISREG(now.st_mode):
            self._seen = None
            raise _Unusable("not a file")
        seen = (now.st_mtime_ns, now.st_size, now.st_ino, now.st_dev)
        if seen != self._seen:
            self._seen, self._settled = seen, False
            return True
        if not self._settled:
            # Once more: it may have been read while it was being written, and the clock of a
            # file system is too coarse (milliseconds) to tell the last write from the one before.
            self._settled = True
            return True
        return False

    def _read(self) -> bytes:
        with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise _Unusable("larger than 1 MiB")
        return content

    def __repr__(self) -> str:
        return f"<FileDiscovery {self._findings!r}>"


def _instances(content: bytes, suffix: str) -> list[Found]:
    """The instances in a document.

    :raises _Unusable: when anything in it is wrong.
    """
    data = _parsed(content, suffix)
    if isinstance(data, Mapping) and data.keys() == {"instances"}:
        data = data["instances"]
    if not data:
        raise _Unusable("empty")
    if not isinstance(data, list):
        raise _Unusable(f"found {show(data)}; allowed: {_SHAPE}")
    if len(data) > MOST_INSTANCES:
        raise _Unusable(f"{len(data)} instances; allowed: at most {MOST_INSTANCES}")
    places: dict[str, int] = {}
    found = []
    for index, item in enumerate(data):
        instance = _instance(item, index)
        first = places.setdefault(instance.id, index)
        if first != index:
            raise _Unusable(f"instances[{index}]: the same instance as instances[{first}]")
        found.append(Found(instance))
    return found


def _instance(item: object, index: int) -> config.Instance:
    try:
        return config.Instance.model_validate(item)
    except ValidationError as error:
        raise _Unusable("; ".join(_problems(error, index))) from None


def _problems(error: ValidationError, index: int) -> Iterator[str]:
    for each in error.errors(include_url=False):
        context = each.get("ctx", {})
        said = context.get("message") or context.get("allowed") or each["msg"]
        yield f"{key_path(('instances', index, *each['loc']))}: {said}"


def _parsed(content: bytes, suffix: str) -> Any:
    if suffix == ".json":
        try:
            return orjson.loads(content) if content.strip() else None
        except orjson.JSONDecodeError as error:
            raise _Unusable(f"not valid JSON: {error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _Unusable("not UTF-8 text") from None
    document = read_yaml(text, "")
    if document.problems:
        first = document.problems[0]
        raise _Unusable(f"line {first.line}: {first.message}" if first.line else first.message)
    return document.data
