"""The service behind every proxy: nginx on the load core, with the three things it serves."""

from dataclasses import dataclass

from harness.machine import Cores
from harness.processes import BenchError, Child, Rig, await_answer
from harness.proxies import PEERS, fill_in, nginx_values

SMALL_PATH, BIG_PATH, UPLOAD_PATH = "/small", "/big", "/upload"
BIG_SIZE = UPLOAD_SIZE = 1 << 20
SMALL = (
    '{"id":7,"name":"Ada Lovelace","email":"ada@example.com","roles":["reader","editor"],'
    '"active":true,"plan":"standard","created":"2024-05-01","quota":1000}'
).ljust(150)
ACCEPTED = '{"accepted":true}'


@dataclass(frozen=True)
class Upstream:
    child: Child
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def start_upstream(rig: Rig, cores: Cores) -> Upstream:
    """Start it and wait for its first answer; BenchError when nginx is not there."""
    directory = rig.subdirectory("upstream")
    (directory / "www").mkdir()
    (directory / "www" / "big").write_bytes(bytes(range(256)) * (BIG_SIZE // 256))
    port = rig.port()
    configuration = directory / "upstream.conf"
    fill_in(
        PEERS / "upstream.conf", configuration, {**nginx_values(directory, port), "SMALL": SMALL}
    )
    try:
        child = rig.start(
            "upstream",
            ["nginx", "-c", configuration, "-e", directory / "error.log"],
            core=cores.load,
        )
    except FileNotFoundError as error:
        raise BenchError(f"{error.filename} is not installed: run make bench-setup") from error
    if await_answer(child, port, SMALL_PATH) != SMALL.encode():
        raise BenchError("the upstream answers something else than it was told to")
    return Upstream(child, port)
