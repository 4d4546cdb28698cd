package main

import (
	"bytes"
	"syscall"
)

const (
	backlog    = 4096
	directFrom = 16 << 10 // payload from this size is not copied to the output first
)

// acceptor is the listening socket of the echo server.
type acceptor struct {
	loop *loop
	fd   int
}

// serve echoes messages until the process is killed. A request that asks for no WebSocket is
// answered with 200, as a health check wants it.
func serve(listen string) error {
	l, err := newLoop()
	if err != nil {
		return err
	}
	address, err := parseAddress(listen)
	if err != nil {
		return err
	}
	flags := syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC | syscall.SOCK_NONBLOCK
	fd, err := syscall.Socket(syscall.AF_INET, flags, 0)
	if err != nil {
		return err
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err := syscall.Bind(fd, address); err != nil {
		return err
	}
	if err := syscall.Listen(fd, backlog); err != nil {
		return err
	}
	if err := l.add(fd, &acceptor{l, fd}); err != nil {
		return err
	}
	for {
		if err := l.turn(patience); err != nil {
			return err
		}
	}
}

func (a *acceptor) ready(uint32) {
	for {
		fd, _, err := syscall.Accept4(a.fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return // nobody is waiting, or there are no more files: the next turn tries again
		}
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		if a.loop.add(fd, &served{loop: a.loop, fd: fd}) != nil {
			syscall.Close(fd)
		}
	}
}

// served is one connection of the echo server. What the kernel does not take waits in `out`, and
// nothing is read meanwhile.
type served struct {
	loop     *loop
	fd       int
	decoder  decoder
	head     []byte // of the request, until it is whole
	control  []byte
	out      []byte
	upgraded bool
	leaving  bool // close when `out` is empty
	closed   bool
}

var output = make([]byte, 0, 512<<10) // of the connection that is ready, for this turn only

func (s *served) ready(events uint32) {
	if len(s.out) > 0 {
		s.flush()
		return
	}
	n, errno := read(s.fd, s.loop.buffer)
	if errno != 0 && again(errno) {
		return
	}
	if errno != 0 || n == 0 {
		s.close()
		return
	}
	output = output[:0]
	if data := s.loop.buffer[:n]; s.upgraded {
		s.echo(data)
	} else {
		s.opening(data)
	}
	s.send(output)
}

func (s *served) opening(data []byte) {
	s.head = append(s.head, data...)
	end := bytes.Index(s.head, headEnd)
	if end < 0 {
		s.leaving = len(s.head) > mostHead
		return
	}
	head, rest := s.head[:end+2], s.head[end+4:]
	s.head = nil
	key := field(head, "sec-websocket-key")
	if key == nil {
		output = append(output, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"...)
		return
	}
	output = append(output, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"...)
	output = append(output, "Connection: Upgrade\r\nSec-WebSocket-Accept: "...)
	output = append(append(output, acceptFor(string(key))...), headEnd...)
	s.upgraded = true
	s.echo(rest)
}

func (s *served) echo(data []byte) {
	for len(data) > 0 && !s.leaving {
		found, rest, err := s.decoder.next(data)
		if err != nil {
			s.leaving = true
			return
		}
		data = rest
		if isControl(s.decoder.first) {
			s.answer(found)
			continue
		}
		if found.started {
			output = appendHead(output, s.decoder.first, found.length, nil)
		}
		if len(found.payload) < directFrom {
			output = append(output, found.payload...)
			continue
		}
		s.send(output)
		s.send(found.payload)
		output = output[:0]
	}
}

// answer does what a control frame asks for, once it is whole.
func (s *served) answer(found piece) {
	if !found.started && !found.ended && len(found.payload) == 0 {
		return
	}
	s.control = append(s.control, found.payload...)
	if !found.ended {
		return
	}
	switch s.decoder.first & 0x0f {
	case opPing:
		output = appendFrame(output, opPong, s.control, nil)
	case opClose:
		output = appendFrame(output, opClose, s.control, nil)
		s.leaving = true
	}
	s.control = s.control[:0]
}

// send writes behind what is already waiting.
func (s *served) send(data []byte) {
	if s.closed {
		return
	}
	if len(s.out) == 0 {
		n, errno := write(s.fd, data)
		if errno != 0 && !again(errno) {
			s.close()
			return
		}
		data = data[n:]
		if len(data) > 0 {
			s.loop.watch(s.fd, writable)
		}
	}
	s.out = append(s.out, data...)
	if len(s.out) == 0 && s.leaving {
		s.close()
	}
}

func (s *served) close() {
	s.closed, s.leaving, s.out = true, true, nil
	s.loop.close(s.fd)
}

func (s *served) flush() {
	n, errno := write(s.fd, s.out)
	if errno != 0 && !again(errno) {
		s.close()
		return
	}
	s.out = s.out[:copy(s.out, s.out[n:])]
	if len(s.out) > 0 {
		return
	}
	s.out = nil
	if s.leaving {
		s.close()
		return
	}
	s.loop.watch(s.fd, readable)
}
