// Goproxy is net/http/httputil.ReverseProxy and nothing else: what a Go programmer gets from the
// standard library in twenty lines. Two settings are raised, because the defaults would measure
// something other than proxying: idle connections per upstream (2 by default, so that most
// requests would dial anew) and a buffer pool for bodies.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte  { return *b.pool.Get().(*[]byte) }
func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "host:port for plain HTTP")
	listenTLS := flag.String("listen-tls", "", "host:port for HTTPS; empty for none")
	certificate := flag.String("cert", "", "PEM certificate")
	key := flag.String("key", "", "PEM key")
	upstream := flag.String("upstream", "127.0.0.1:9000", "host:port of the upstream")
	flag.Parse()

	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: *upstream})
	proxy.Transport = &http.Transport{
		MaxIdleConns:        0, // no limit
		MaxIdleConnsPerHost: 4096,
		IdleConnTimeout:     300 * time.Second,
		DisableCompression:  true,
	}
	proxy.BufferPool = &bufferPool{sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}}
	proxy.ErrorLog = log.New(io.Discard, "", 0)

	if *listenTLS != "" {
		go func() { log.Fatal(http.ListenAndServeTLS(*listenTLS, *certificate, *key, proxy)) }()
	}
	log.Fatal(http.ListenAndServe(*listen, proxy))
}
