// Fanout is both ends of an event stream: the upstream that sends events and the clients that
// receive them through a proxy, in one process so that both read the same clock.
//
// It is driven by lines on standard input and answers each with one JSON object per line:
//
//	open ADDRESS PATH COUNT   open that many streams; answers when each has its first event
//	broadcast COUNT MILLIS    send COUNT events to all streams, MILLIS apart; answers with the
//	                          time from the start of a broadcast to each client's receipt
//	close                     close the clients' connections
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const patience = 20 * time.Second

// upstream keeps the connections of all open streams.
type upstream struct {
	mutex   sync.Mutex
	streams map[net.Conn]struct{}
}

func (u *upstream) serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go u.stream(conn)
	}
}

func (u *upstream) stream(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReaderSize(conn, 2048)
	if _, err := http.ReadRequest(reader); err != nil {
		return
	}
	conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" +
		"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"))
	// Known to broadcast before the client hears of it: whoever has event 0 gets event 1.
	u.mutex.Lock()
	u.streams[conn] = struct{}{}
	u.mutex.Unlock()
	conn.Write(chunk(event(0)))
	reader.ReadByte() // returns when the proxy closes
	u.mutex.Lock()
	delete(u.streams, conn)
	u.mutex.Unlock()
}

func (u *upstream) send(data []byte) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	for conn := range u.streams {
		conn.Write(data)
	}
}

func event(id int) string {
	return fmt.Sprintf("id: %d\ndata: {\"price\":101.25,\"symbol\":\"TWST\",\"volume\":1200}\n\n", id)
}

func chunk(text string) []byte {
	return []byte(fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
}

type receipt struct {
	id int
	at time.Time
}

// clients keeps the receiving side.
type clients struct {
	conns    []net.Conn
	receipts chan receipt
}

func (c *clients) open(address, path string, count int) error {
	for i := 0; i < count; i++ {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, address)
		go c.receive(conn)
	}
	return c.await(count, func(receipt) {})
}

func (c *clients) receive(conn net.Conn) {
	reader := bufio.NewReaderSize(conn, 1024)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 200 {
		return
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 512), 4096)
	id := 0
	for lines.Scan() {
		if line := lines.Text(); strings.HasPrefix(line, "id: ") {
			id, _ = strconv.Atoi(line[4:])
		} else if line == "" { // the event is complete
			c.receipts <- receipt{id, time.Now()}
		}
	}
}

func (c *clients) await(count int, each func(receipt)) error {
	deadline := time.After(patience)
	for received := 0; received < count; received++ {
		select {
		case r := <-c.receipts:
			each(r)
		case <-deadline:
			return fmt.Errorf("%d of %d events arrived within %s", received, count, patience)
		}
	}
	return nil
}

func (c *clients) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func broadcast(u *upstream, c *clients, count int, pause time.Duration) (map[string]any, error) {
	var micros []float64
	var worst []float64 // per event: when the last client had it
	for id := 1; id <= count; id++ {
		data, last := chunk(event(id)), 0.0
		start := time.Now()
		u.send(data)
		err := c.await(len(c.conns), func(r receipt) {
			last = float64(r.at.Sub(start)) / 1e3
			micros = append(micros, last)
		})
		if err != nil {
			return nil, err
		}
		worst = append(worst, last)
		time.Sleep(pause)
	}
	return map[string]any{
		"events": count, "streams": len(c.conns),
		"p50": quantile(micros, 0.5), "p99": quantile(micros, 0.99),
		"last_p50": quantile(worst, 0.5), "last_max": quantile(worst, 1),
	}, nil
}

func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sort.Float64s(values)
	return values[int(q*float64(len(values)-1))]
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "host:port of the upstream")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	u := &upstream{streams: map[net.Conn]struct{}{}}
	c := &clients{receipts: make(chan receipt, 1<<16)}
	go u.serve(listener)

	answer := json.NewEncoder(os.Stdout)
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		result, err := obey(u, c, strings.Fields(commands.Text()))
		if err != nil {
			result = map[string]any{"error": err.Error()}
		}
		answer.Encode(result)
	}
}

func obey(u *upstream, c *clients, words []string) (map[string]any, error) {
	done := map[string]any{"ok": true}
	switch {
	case len(words) == 4 && words[0] == "open":
		count, err := strconv.Atoi(words[3])
		if err != nil {
			return nil, err
		}
		return done, c.open(words[1], words[2], count)
	case len(words) == 3 && words[0] == "broadcast":
		count, _ := strconv.Atoi(words[1])
		millis, _ := strconv.Atoi(words[2])
		return broadcast(u, c, count, time.Duration(millis)*time.Millisecond)
	case len(words) == 1 && words[0] == "close":
		c.close()
		return done, nil
	}
	return nil, fmt.Errorf("not a command: %q", words)
}
