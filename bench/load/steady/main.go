// Steady sends GET requests at a constant rate, whatever the answers do, and reports latency from
// the moment each request should have been sent. A slow answer therefore also charges the requests
// that had to wait behind it ("coordinated omission" is what a closed loop would leave out).
//
// One thread, one epoll loop over raw sockets: Go's own timers wake up to 1 ms late, which is more
// than what is measured here. Requests that find no free connection wait in order and keep their
// intended time. Prints one JSON object.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

const (
	sysEpollPwait2   = 441 // Linux 5.11, the same number on every architecture
	prSetTimerslack  = 29
	graceAfterTheEnd = 2 * time.Second
)

var headEnd = []byte("\r\n\r\n")

type connection struct {
	fd       int
	buffer   []byte
	filled   int
	intended time.Duration
}

type generator struct {
	request  []byte
	address  syscall.SockaddrInet4
	epoll    int
	byFd     map[int32]*connection
	idle     []*connection
	backlog  []time.Duration // intended times of requests that found no free connection
	latency  []time.Duration
	warm     time.Duration // answers to requests intended before this are not counted
	answered int
	failed   int
	start    time.Time
}

func main() {
	address := flag.String("address", "127.0.0.1:8080", "IPv4 host:port")
	path := flag.String("path", "/small", "request target")
	rate := flag.Float64("rate", 1000, "requests per second")
	seconds := flag.Float64("seconds", 3, "how long to measure")
	warm := flag.Float64("warm", 0.5, "seconds before that, not counted")
	connections := flag.Int("connections", 64, "keep-alive connections")
	flag.Parse()

	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	// The kernel may round timeouts of ordinary threads up by 50 us; ask for 1 ns.
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, 1, 0)

	total := int(*rate * (*warm + *seconds))
	g, err := newGenerator(*address, *path, *connections, total)
	if err != nil {
		fmt.Fprintln(os.Stderr, "steady:", err)
		os.Exit(1)
	}
	g.warm = time.Duration(*warm * 1e9)
	if err := g.run(total, time.Duration(1e9 / *rate)); err != nil {
		fmt.Fprintln(os.Stderr, "steady:", err)
		os.Exit(1)
	}
	g.report(total)
}

func newGenerator(address, path string, connections, total int) (*generator, error) {
	resolved, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return nil, err
	}
	g := &generator{
		request: []byte("GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\n\r\n"),
		byFd:    make(map[int32]*connection, connections),
		latency: make([]time.Duration, 0, total),
	}
	g.address.Port = resolved.Port
	copy(g.address.Addr[:], resolved.IP.To4())
	if g.epoll, err = syscall.EpollCreate1(0); err != nil {
		return nil, err
	}
	for i := 0; i < connections; i++ {
		c, err := g.dial()
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", address, err)
		}
		g.idle = append(g.idle, c)
	}
	return g, nil
}

func (g *generator) dial() (*connection, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, &g.address); err != nil {
		return nil, err
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	syscall.SetNonblock(fd, true)
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
	if err := syscall.EpollCtl(g.epoll, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		return nil, err
	}
	c := &connection{fd: fd, buffer: make([]byte, 16<<10)}
	g.byFd[int32(fd)] = c
	return c, nil
}

// run is the loop: send what is due, wait for answers until the next one is.
func (g *generator) run(total int, interval time.Duration) error {
	events := make([]syscall.EpollEvent, 256)
	end := time.Duration(total)*interval + graceAfterTheEnd
	g.start = time.Now()
	for sent := 0; g.answered+g.failed < total; {
		now := time.Since(g.start)
		if now > end {
			g.failed = total - g.answered
			return nil
		}
		for ; sent < total && time.Duration(sent)*interval <= now; sent++ {
			g.submit(time.Duration(sent) * interval)
		}
		wait := 100 * time.Millisecond
		if sent < total {
			wait = time.Duration(sent)*interval - time.Since(g.start)
		}
		n, err := epollWait(g.epoll, events, wait)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for i := 0; i < n; i++ {
			if c := g.byFd[events[i].Fd]; c != nil {
				if err := g.readable(c); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (g *generator) submit(intended time.Duration) {
	if len(g.idle) == 0 {
		g.backlog = append(g.backlog, intended)
		return
	}
	c := g.idle[len(g.idle)-1]
	g.idle = g.idle[:len(g.idle)-1]
	g.send(c, intended)
}

// send writes the request; a failed write shows up as a closed connection in readable.
func (g *generator) send(c *connection, intended time.Duration) {
	c.intended, c.filled = intended, 0
	syscall.Write(c.fd, g.request)
}

func (g *generator) readable(c *connection) error {
	n, err := syscall.Read(c.fd, c.buffer[c.filled:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return nil
	}
	if n <= 0 || err != nil {
		return g.lost(c)
	}
	c.filled += n
	ok, complete := parse(c.buffer[:c.filled])
	if !complete {
		if c.filled == len(c.buffer) {
			return g.lost(c)
		}
		return nil
	}
	if !ok {
		g.failed++
	} else {
		g.answered++
		if c.intended >= g.warm {
			g.latency = append(g.latency, time.Since(g.start)-c.intended)
		}
	}
	g.next(c)
	return nil
}

func (g *generator) next(c *connection) {
	if len(g.backlog) == 0 {
		g.idle = append(g.idle, c)
		return
	}
	intended := g.backlog[0]
	g.backlog = g.backlog[1:]
	g.send(c, intended)
}

// lost replaces a connection that the peer closed. One that was idle had no request to fail.
func (g *generator) lost(c *connection) error {
	delete(g.byFd, int32(c.fd))
	syscall.Close(c.fd)
	fresh, err := g.dial()
	if err != nil {
		return err
	}
	for i, other := range g.idle {
		if other == c {
			g.idle[i] = fresh
			return nil
		}
	}
	g.failed++
	g.next(fresh)
	return nil
}

// parse tells whether the answer is complete, and if so whether it is a 200.
func parse(data []byte) (ok, complete bool) {
	split := bytes.Index(data, headEnd)
	if split < 0 {
		return false, false
	}
	head, body := bytes.ToLower(data[:split+2]), data[split+4:]
	ok = bytes.HasPrefix(head, []byte("http/1.1 200"))
	if i := bytes.Index(head, []byte("\r\ncontent-length:")); i >= 0 {
		value := head[i+17:]
		value = value[:bytes.IndexByte(value, '\r')]
		length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		return ok && err == nil, err != nil || len(body) >= length
	}
	return ok, bytes.HasSuffix(body, []byte("0\r\n\r\n")) // chunked; nothing else is expected here
}

func epollWait(epoll int, events []syscall.EpollEvent, wait time.Duration) (int, error) {
	if wait < 0 {
		wait = 0
	}
	timeout := syscall.NsecToTimespec(int64(wait))
	n, _, errno := syscall.Syscall6(sysEpollPwait2, uintptr(epoll),
		uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

func (g *generator) report(total int) {
	sort.Slice(g.latency, func(i, j int) bool { return g.latency[i] < g.latency[j] })
	at := func(quantile float64) float64 {
		if len(g.latency) == 0 {
			return 0
		}
		return float64(g.latency[int(quantile*float64(len(g.latency)-1))]) / 1e3
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"intended": total, "answered": g.answered, "failed": g.failed,
		"p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": at(1), // microseconds
	})
}
