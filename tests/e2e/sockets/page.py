"""A page whose script tries WebSockets in a browser, and posts what it saw to ``/page/report``."""

from __future__ import annotations

__all__ = ["page"]

_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>WebSockets</title>
<script>
const token = "TOKEN";
const base = location.origin.replace("http", "ws");
const seen = {};

function open(path, protocols) {
  const socket = protocols ? new WebSocket(base + path, protocols) : new WebSocket(base + path);
  socket.binaryType = "arraybuffer";
  const waiting = [], come = [];
  socket.onmessage = event => waiting.length ? waiting.shift()(event.data) : come.push(event.data);
  socket.next = () => come.length ? come.shift() : new Promise(done => waiting.push(done));
  socket.opened = new Promise((done, failed) => {
    socket.onopen = done;
    socket.onerror = () => failed(new Error("failed"));
  });
  socket.closed = new Promise(done => {
    socket.onclose = event => done([event.code, event.reason, event.wasClean]);
  });
  return socket;
}

async function echoes() {
  const socket = open("/live?a=1", ["bearer", token]);
  await socket.opened;
  seen.protocol = socket.protocol;
  seen.extensions = socket.extensions;
  socket.send("grüße 👋");
  seen.text = await socket.next();
  const bytes = new Uint8Array(70000).map((_, at) => at % 251);
  socket.send(bytes);
  const back = new Uint8Array(await socket.next());
  seen.binary = back.length === bytes.length && back.every((byte, at) => byte === bytes[at]);
  const long = "the same again ".repeat(20000);
  socket.send(long);
  seen.compressible = await socket.next() === long;
  for (let number = 0; number < 100; number++) socket.send(String(number));
  seen.order = true;
  for (let number = 0; number < 100; number++) {
    if (await socket.next() !== String(number)) seen.order = false;
  }
  socket.close(4000, "all seen");
  seen.closed = await socket.closed;
}

async function told() {
  const socket = open("/live", ["bearer", token]);
  await socket.opened;
  socket.send("close 4321 because of you");
  seen.told = await socket.closed;
}

async function refused() {
  for (const [name, path, protocols] of [
    ["no token", "/live", undefined],
    ["bad token", "/live", ["bearer", "nonsense"]],
    ["unknown service", "/ws/nobody", ["bearer", token]],
  ]) {
    const socket = open(path, protocols);
    socket.opened.catch(() => {});
    seen[name] = await socket.closed;
  }
}

async function all() {
  for (const each of [echoes, told, refused]) {
    try {
      await each();
    } catch (error) {
      seen[each.name] = String(error);
    }
  }
  await fetch("/page/report", {method: "POST", body: JSON.stringify(seen)});
}
all();
</script>
"""


def page(token: str) -> bytes:
    """The page; its script shows ``token`` to the gateway."""
    return _PAGE.replace("TOKEN", token).encode()
