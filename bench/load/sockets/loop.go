package main

import (
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"
)

const (
	sysEpollPwait2 = 441 // Linux 5.11, the same number on every architecture
	readable       = syscall.EPOLLIN
	writable       = syscall.EPOLLOUT
	patience       = 10 * time.Second // for one handshake, one close
)

// source is one file descriptor of the loop.
type source interface{ ready(events uint32) }

// loop is one thread over raw sockets: a goroutine per connection costs twice the processor time,
// which on the load's core would limit the fastest proxies.
type loop struct {
	epoll   int
	sources []source // by file descriptor
	events  [256]syscall.EpollEvent
	buffer  []byte // whoever is ready reads into it; nothing stays there
}

func newLoop() (*loop, error) {
	epoll, err := syscall.EpollCreate1(0)
	return &loop{epoll: epoll, buffer: make([]byte, 256<<10)}, err
}

func (l *loop) add(fd int, s source) error {
	for fd >= len(l.sources) {
		l.sources = append(l.sources, make([]source, 1024)...)
	}
	l.sources[fd] = s
	event := syscall.EpollEvent{Events: readable, Fd: int32(fd)}
	return syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &event)
}

func (l *loop) watch(fd int, events uint32) {
	event := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_MOD, fd, &event)
}

func (l *loop) close(fd int) {
	l.sources[fd] = nil
	syscall.Close(fd)
}

// turn waits, at most for `wait`, and serves all that is ready.
func (l *loop) turn(wait time.Duration) error {
	if wait < 0 {
		wait = 0
	}
	timeout := syscall.NsecToTimespec(int64(wait))
	n, _, errno := syscall.Syscall6(sysEpollPwait2, uintptr(l.epoll),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
	if errno != 0 && errno != syscall.EINTR {
		return errno
	}
	if errno == 0 {
		for _, event := range l.events[:n] {
			if s := l.sources[event.Fd]; s != nil {
				s.ready(event.Events)
			}
		}
	}
	return nil
}

// read and write never block, so the Go scheduler need not hear of them.
func read(fd int, into []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd),
		uintptr(unsafe.Pointer(&into[0])), uintptr(len(into)))
	return int(n), errno
}

func write(fd int, data []byte) (int, syscall.Errno) {
	if len(data) == 0 {
		return 0, 0
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func again(errno syscall.Errno) bool { return errno == syscall.EAGAIN || errno == syscall.EINTR }

func parseAddress(text string) (*syscall.SockaddrInet4, error) {
	resolved, err := net.ResolveTCPAddr("tcp4", text)
	if err != nil {
		return nil, err
	}
	address := &syscall.SockaddrInet4{Port: resolved.Port}
	copy(address.Addr[:], resolved.IP.To4())
	return address, nil
}

// dial connects a socket that still blocks, with a limit on how long it may.
func dial(address *syscall.SockaddrInet4) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := syscall.NsecToTimeval(int64(patience))
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit)
	if err := syscall.Connect(fd, address); err != nil {
		syscall.Close(fd)
		return -1, fmt.Errorf("connecting to port %d: %w", address.Port, err)
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	return fd, nil
}
