package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"sort"
	"syscall"
	"time"
)

// clients are the connections of a measurement. All send the same message.
type clients struct {
	loop     *loop
	frame    []byte // as it is sent, masked
	answer   []byte // as it has to come back
	payload  []byte
	sessions []*session
	start    time.Time
	done     func(s *session, now time.Duration) // a round trip is over
	trouble  error                               // the first thing that must not happen
	latency  []time.Duration
}

// session is one connection: at most one message of it is under way.
type session struct {
	all     *clients
	fd      int
	sent    int // bytes of the frame
	got     int // bytes of the payload that came back
	from    time.Duration
	decoder decoder
	control []byte
	waiting bool // for the kernel to take the rest of the frame
}

func newClients(size int, text bool) (*clients, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	rand.Seed(time.Now().UnixNano())
	opcode, payload := byte(opBinary), make([]byte, size)
	rand.Read(payload)
	if text {
		opcode = opText
		for i := range payload {
			payload[i] = ' ' + payload[i]%95 // printable ASCII
		}
	}
	var key [4]byte
	rand.Read(key[:])
	return &clients{
		loop: l, payload: payload, start: time.Now(),
		frame:  appendFrame(nil, opcode, payload, &key),
		answer: appendFrame(nil, opcode, payload, nil),
	}, nil
}

func (c *clients) open(address, path string, count int) error {
	target, err := parseAddress(address)
	if err != nil {
		return err
	}
	for i := 0; i < count; i++ {
		s := &session{all: c}
		if err := s.open(target, address, path); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
		c.sessions = append(c.sessions, s)
	}
	return c.trouble
}

// open makes the handshake. Frames that came with its answer are read too.
func (s *session) open(target *syscall.SockaddrInet4, address, path string) error {
	fd, err := dial(target)
	if err != nil {
		return err
	}
	s.fd = fd
	request, accept := upgradeRequest(address, path)
	if _, err := syscall.Write(fd, request); err != nil {
		return err
	}
	var head []byte
	end := -1
	for end < 0 {
		n, err := syscall.Read(fd, s.all.loop.buffer)
		if err != nil {
			return fmt.Errorf("no answer to the handshake: %w", err)
		}
		if n == 0 || len(head) > mostHead {
			return errors.New("the handshake was not answered")
		}
		head = append(head, s.all.loop.buffer[:n]...)
		end = bytes.Index(head, headEnd)
	}
	if err := checkAnswer(head[:end+2], accept); err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	s.take(head[end+4:])
	return s.all.loop.add(fd, s)
}

// send begins a round trip whose latency counts from `from`.
func (s *session) send(from time.Duration) {
	s.from, s.sent, s.got = from, 0, 0
	s.push()
}

func (s *session) push() {
	n, errno := write(s.fd, s.all.frame[s.sent:])
	if errno != 0 && !again(errno) {
		s.all.fail(errno)
		return
	}
	s.sent += n
	if rest := s.sent < len(s.all.frame); rest != s.waiting {
		s.waiting = rest
		events := uint32(readable)
		if rest {
			events |= writable
		}
		s.all.loop.watch(s.fd, events)
	}
}

func (s *session) ready(events uint32) {
	if events&writable != 0 && s.waiting {
		s.push()
	}
	if events&^writable == 0 {
		return
	}
	buffer := s.all.loop.buffer
	n, errno := read(s.fd, buffer)
	switch {
	case errno != 0 && again(errno):
	case errno != 0:
		s.all.fail(errno)
	case n == 0:
		s.all.fail(io.EOF)
	case s.got == 0 && s.decoder.have == 0 && !s.decoder.inside && bytes.Equal(buffer[:n], s.all.answer):
		s.over()
	default:
		s.take(buffer[:n])
	}
}

// take reads frames in whatever pieces they come and compares every byte of the messages.
func (s *session) take(data []byte) {
	for len(data) > 0 {
		found, rest, err := s.decoder.next(data)
		if err != nil {
			s.all.fail(err)
			return
		}
		data = rest
		if !found.started && !found.ended && len(found.payload) == 0 {
			return // the rest of a header is still to come
		}
		if isControl(s.decoder.first) {
			s.answerControl(found)
			continue
		}
		expected := s.all.payload[s.got:]
		if len(found.payload) > len(expected) || !bytes.Equal(found.payload, expected[:len(found.payload)]) {
			s.all.fail(errors.New("something else came back than was sent"))
			return
		}
		s.got += len(found.payload)
		if found.ended && s.decoder.first&final != 0 {
			if s.got != len(s.all.payload) {
				s.all.fail(errors.New("less came back than was sent"))
				return
			}
			s.over()
		}
	}
}

func (s *session) answerControl(found piece) {
	s.control = append(s.control, found.payload...)
	if !found.ended {
		return
	}
	switch s.decoder.first & 0x0f {
	case opPing:
		// A pong must not come into the middle of a frame that is only half sent.
		if !s.waiting {
			write(s.fd, appendFrame(nil, opPong, s.control, &[4]byte{1, 2, 3, 4}))
		}
	case opClose:
		code, reason := 1005, ""
		if len(s.control) >= 2 {
			code, reason = int(s.control[0])<<8|int(s.control[1]), string(s.control[2:])
		}
		s.all.fail(fmt.Errorf("the other side said Close %d %s", code, reason))
	}
	s.control = s.control[:0]
}

func (s *session) over() {
	s.got = 0
	if done := s.all.done; done != nil {
		done(s, time.Since(s.all.start))
	}
}

func (c *clients) fail(err error) {
	if c.trouble == nil {
		c.trouble = fmt.Errorf("a connection broke: %w", err)
	}
}

// echo keeps every connection busy for `seconds`: a message is sent when the one before is back.
func (c *clients) echo(seconds float64) (outcome, error) {
	length := time.Duration(seconds * 1e9)
	c.latency = make([]time.Duration, 0, 1<<20)
	begun, busy := time.Since(c.start), len(c.sessions)
	end := begun + length
	c.done = func(s *session, now time.Duration) {
		if now <= end {
			c.latency = append(c.latency, now-s.from)
			s.send(now)
		} else {
			busy--
		}
	}
	for _, s := range c.sessions {
		s.send(begun)
	}
	for busy > 0 && c.trouble == nil {
		if time.Since(c.start) > end+patience {
			return outcome{}, fmt.Errorf("%d messages did not come back", busy)
		}
		if err := c.loop.turn(100 * time.Millisecond); err != nil {
			return outcome{}, err
		}
	}
	return c.outcome(seconds, 0), c.trouble
}

// steady sends `rate` messages a second whatever comes back, and counts each latency from when the
// message should have left. One that finds no free connection waits for one, in order.
func (c *clients) steady(rate, warm, seconds float64) (outcome, error) {
	total := int(rate * (warm + seconds))
	interval := time.Duration(1e9 / rate)
	c.latency = make([]time.Duration, 0, total)
	free := append(make([]*session, 0, 2*len(c.sessions)), c.sessions...)
	c.start = time.Now()
	counted := time.Duration(warm * 1e9)
	answered := 0
	c.done = func(s *session, now time.Duration) {
		answered++
		if s.from >= counted {
			c.latency = append(c.latency, now-s.from)
		}
		free = append(free, s)
	}
	end := time.Duration(total)*interval + 2*time.Second
	for sent := 0; answered < total && c.trouble == nil; {
		now := time.Since(c.start)
		if now > end {
			break
		}
		for sent < total && len(free) > 0 && time.Duration(sent)*interval <= now {
			s := free[0] // whoever has rested longest, so that all connections are used
			free = free[1:]
			s.send(time.Duration(sent) * interval)
			sent++
		}
		wait := 100 * time.Millisecond
		if sent < total && len(free) > 0 {
			wait = time.Duration(sent)*interval - time.Since(c.start)
		}
		if err := c.loop.turn(wait); err != nil {
			return outcome{}, err
		}
	}
	return c.outcome(seconds, total-answered), c.trouble
}

// close says goodbye on every connection, so that the proxy's work for it is over when we are.
func (c *clients) close() {
	goodbye := appendFrame(nil, opClose, []byte{1000 >> 8, 1000 & 0xff}, &[4]byte{1, 2, 3, 4})
	c.done = nil
	for _, s := range c.sessions {
		write(s.fd, goodbye)
	}
	deadline := time.Now().Add(2 * time.Second)
	for _, s := range c.sessions {
		for time.Now().Before(deadline) {
			n, errno := read(s.fd, c.loop.buffer)
			if n <= 0 && !(errno != 0 && again(errno)) {
				break
			}
			if errno != 0 {
				time.Sleep(time.Millisecond)
			}
		}
		syscall.Close(s.fd)
	}
}

// outcome is what a measurement prints. Latencies are microseconds.
type outcome struct {
	Messages int     `json:"messages"`
	Missing  int     `json:"missing"`
	Seconds  float64 `json:"seconds"`
	Bytes    int     `json:"bytes"` // payload that came back
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	P999     float64 `json:"p999"`
	Worst    float64 `json:"worst"`
}

func (c *clients) outcome(seconds float64, missing int) outcome {
	made := summary(c.latency, seconds)
	made.Missing, made.Bytes = missing, len(c.latency)*len(c.payload)
	return made
}

func summary(latency []time.Duration, seconds float64) outcome {
	sort.Slice(latency, func(i, j int) bool { return latency[i] < latency[j] })
	at := func(quantile float64) float64 {
		if len(latency) == 0 {
			return 0
		}
		return float64(latency[int(quantile*float64(len(latency)-1))]) / 1e3
	}
	return outcome{
		Messages: len(latency), Seconds: seconds,
		P50: at(0.5), P99: at(0.99), P999: at(0.999), Worst: at(1),
	}
}
