"""twisted.web's own ReverseProxyResource, one process: twisted_web.py PORT UPSTREAM."""

import sys


def main() -> None:
    port, upstream = sys.argv[1:3]
    host, _, upstream_port = upstream.rpartition(":")
    # Both imports install the default reactor, so they wait until the program runs.
    from twisted.internet import reactor
    from twisted.web import proxy, server

    site = server.Site(proxy.ReverseProxyResource(host, int(upstream_port), b""))
    site.displayTracebacks = False
    reactor.listenTCP(int(port), site, backlog=4096, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
