package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"syscall"
	"time"
)

// cycles opens and closes connections as fast as it can: connect, upgrade, Close frames both ways,
// end of the connection. Each of the concurrent ones begins anew as soon as it is through.
type cycles struct {
	loop    *loop
	target  *syscall.SockaddrInet4
	address string
	path    string
	start   time.Time
	end     time.Duration
	under   int // under way
	latency []time.Duration
	trouble error
}

type stage int

const (
	upgrading stage = iota
	closing         // our Close frame is sent
	ending          // theirs is here; they close the connection, as servers should
)

type cycle struct {
	all     *cycles
	fd      int
	stage   stage
	began   time.Duration
	accept  string
	head    []byte
	decoder decoder
}

func newCycles(address, path string) (*cycles, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	rand.Seed(time.Now().UnixNano())
	target, err := parseAddress(address)
	return &cycles{loop: l, target: target, address: address, path: path}, err
}

func (c *cycles) run(concurrent int, seconds float64) (outcome, error) {
	c.start, c.end = time.Now(), time.Duration(seconds*1e9)
	for i := 0; i < concurrent; i++ {
		c.begin()
	}
	for c.under > 0 && c.trouble == nil {
		if time.Since(c.start) > c.end+patience {
			return outcome{}, fmt.Errorf("%d connections did not end", c.under)
		}
		if err := c.loop.turn(100 * time.Millisecond); err != nil {
			return outcome{}, err
		}
	}
	return summary(c.latency, seconds), c.trouble
}

// begin connects, which on this machine takes no longer than the call, and asks for the upgrade.
func (c *cycles) begin() {
	if c.trouble != nil {
		return
	}
	one := &cycle{all: c, began: time.Since(c.start)}
	fd, err := dial(c.target)
	if err != nil {
		c.trouble = err
		return
	}
	one.fd = fd
	syscall.SetNonblock(fd, true)
	var request []byte
	request, one.accept = upgradeRequest(c.address, c.path)
	if n, errno := write(fd, request); n < len(request) {
		c.trouble = fmt.Errorf("the request could not be sent: %w", errno)
		return
	}
	if c.trouble = c.loop.add(fd, one); c.trouble == nil {
		c.under++
	}
}

func (o *cycle) ready(uint32) {
	n, errno := read(o.fd, o.all.loop.buffer)
	if errno != 0 && again(errno) {
		return
	}
	data := o.all.loop.buffer[:max(n, 0)]
	var err error
	switch {
	case o.stage == ending:
		if len(data) == 0 {
			o.through()
			return
		}
		err = fmt.Errorf("%d bytes behind the Close frame", len(data))
	case errno != 0:
		err = errno
	case n == 0:
		err = io.EOF
	case o.stage == upgrading:
		err = o.upgraded(data)
	default:
		err = o.frames(data)
	}
	if err != nil {
		o.all.trouble = fmt.Errorf("a connection broke: %w", err)
	}
}

func (o *cycle) upgraded(data []byte) error {
	o.head = append(o.head, data...)
	end := bytes.Index(o.head, headEnd)
	if end < 0 {
		return nil
	}
	if err := checkAnswer(o.head[:end+2], o.accept); err != nil {
		return err
	}
	o.stage = closing
	goodbye := appendFrame(nil, opClose, []byte{1000 >> 8, 1000 & 0xff}, &[4]byte{1, 2, 3, 4})
	if n, errno := write(o.fd, goodbye); n < len(goodbye) {
		return fmt.Errorf("the Close frame could not be sent: %w", errno)
	}
	return o.frames(o.head[end+4:])
}

func (o *cycle) frames(data []byte) error {
	for len(data) > 0 {
		found, rest, err := o.decoder.next(data)
		if err != nil {
			return err
		}
		data = rest
		if found.ended && o.decoder.first&0x0f == opClose {
			o.stage = ending
		}
	}
	return nil
}

func (o *cycle) through() {
	o.all.loop.close(o.fd)
	o.all.under--
	now := time.Since(o.all.start)
	if now <= o.all.end {
		o.all.latency = append(o.all.latency, now-o.began)
		o.all.begin()
	}
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
