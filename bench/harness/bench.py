"""One run of the benchmark: its options, who takes part, and how a contestant is started."""

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.credentials import self_signed
from harness.machine import Cores
from harness.processes import START_PATIENCE, BenchError, Child, Rig, await_answer
from harness.proxies import Proxy, Running, Slot, peers
from harness.rounds import Entrant, Rounds, interleave
from harness.upstream import SMALL, SMALL_PATH


@dataclass(frozen=True)
class Options:
    """From the command line. `only` are proxy names, empty for all; `rate` 0 means find out."""

    rounds: int
    seconds: float
    only: frozenset[str] = frozenset()
    rate: float = 0.0
    streams: int = 1000
    pairs: int = 5000


@dataclass
class Bench:
    options: Options
    cores: Cores
    ports: Iterator[int]
    missing: dict[str, str] = field(default_factory=dict)  # title -> why
    versions: dict[str, str] = field(default_factory=dict)
    known_rates: dict[str, float] = field(default_factory=dict)  # name -> req/s, from `small`

    def rig(self) -> Rig:
        return Rig(self.ports)

    def taking_part(self, *names: str, sockets: bool = False) -> list[Proxy]:
        """The installed peers among `names` (none = all) that the options do not leave out.

        With `sockets` those that are compared as bridges of WebSockets, else as HTTP proxies.
        """
        able = [peer for peer in peers() if (peer.sockets if sockets else peer.http)]
        chosen = [peer for peer in able if not names or peer.name in names]
        return [peer for peer in chosen if self.wanted(peer)]

    def wanted(self, proxy: Proxy) -> bool:
        """Whether the options let it in and it is installed; notes when it is not."""
        if self.options.only and proxy.name.partition("-")[0] not in self.options.only:
            return False
        if proxy.missing:
            self.missing[proxy.title] = proxy.missing
            return False
        return True

    def start_all(
        self,
        rig: Rig,
        proxies: Iterable[Proxy],
        upstream: str,
        *,
        headers: Mapping[str, Mapping[str, str]] | None = None,
        probe: bool = True,
    ) -> dict[str, Running]:
        """Start those that are wanted; one that does not come up is noted as missing.

        `headers` by proxy name are sent with the first request, which must bring the small JSON;
        with `probe` off a listening port is enough.
        """
        running = {}
        for proxy in filter(self.wanted, proxies):
            try:
                slot = self._slot(rig, proxy, upstream)
                launch = proxy.launch(slot)
                child = rig.start(proxy.name, launch.argv, core=self.cores.proxy, env=launch.env)
                started = Running(proxy, child, slot)
                if probe:
                    self._await_small(started, (headers or {}).get(proxy.name, {}))
                else:
                    _await_listening(child, slot.port)
            except BenchError as error:
                self.missing[proxy.title] = str(error)
            else:
                running[proxy.name] = started
                self.versions[proxy.name.partition("-")[0]] = proxy.version
        return running

    def interleave(self, entrants: list[Entrant], *, warm_up: float = 1.0) -> Rounds:
        with progress_line() as progress:
            return interleave(
                entrants,
                rounds=self.options.rounds,
                seconds=self.options.seconds,
                cores=self.cores,
                progress=progress,
                warm_up=warm_up,
            )

    def _slot(self, rig: Rig, proxy: Proxy, upstream: str) -> Slot:
        directory = rig.subdirectory(proxy.name)
        certificate = self_signed(directory) if proxy.speaks_tls else None
        return Slot(directory, rig.port(), rig.port(), upstream, certificate)

    def _await_small(self, running: Running, headers: Mapping[str, str]) -> None:
        path = running.proxy.prefix + SMALL_PATH
        body = await_answer(running.child, running.slot.port, path, headers.items())
        if body != SMALL.encode():
            raise BenchError(f"{running.proxy.name} does not pass on what the upstream sent")


def _await_listening(child: Child, port: int) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline:
        child.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise BenchError(f"{child.name} does not listen: {child.complaint()}")


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """One line on a terminal's standard error that overwrites itself; silent otherwise."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    try:
        yield lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
