package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const atOnce = 32 // handshakes while opening

// crowd is many connections that mostly do nothing. They answer pings.
type crowd struct {
	mutex sync.Mutex
	conns []*guest
	lost  int64 // that ended before they were told to
	pings int64
	alive sync.WaitGroup
}

type guest struct {
	net.Conn
	writing sync.Mutex
	echoed  chan struct{}
	leaving int32
}

// idle obeys lines of standard input, answering each with a line of JSON:
//
//	open ADDRESS PATH COUNT plain|tls   open that many more
//	echo                                one round trip on each
//	status                              how many are open and lost, and how many pings there were
//	close                               close all, with Close frames
func idle() error {
	c := &crowd{}
	answer := json.NewEncoder(os.Stdout)
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		if err := c.obey(strings.Fields(commands.Text())); err != nil {
			answer.Encode(map[string]string{"error": err.Error()})
			continue
		}
		answer.Encode(map[string]int64{
			"open": int64(len(c.conns)) - atomic.LoadInt64(&c.lost),
			"lost": atomic.LoadInt64(&c.lost), "pings": atomic.LoadInt64(&c.pings),
		})
	}
	return commands.Err()
}

func (c *crowd) obey(words []string) error {
	switch {
	case len(words) == 5 && words[0] == "open":
		count, err := strconv.Atoi(words[3])
		if err != nil {
			return err
		}
		return c.open(words[1], words[2], count, words[4] == "tls")
	case len(words) == 1 && words[0] == "echo":
		return c.echo()
	case len(words) == 1 && words[0] == "status":
		return nil
	case len(words) == 1 && words[0] == "close":
		c.close()
		return nil
	}
	return fmt.Errorf("not a command: %q", words)
}

func (c *crowd) open(address, path string, count int, secure bool) error {
	var failed error
	var all sync.WaitGroup
	gate := make(chan struct{}, atOnce)
	for i := 0; i < count; i++ {
		all.Add(1)
		gate <- struct{}{}
		go func() {
			g, err := enter(address, path, secure)
			c.mutex.Lock()
			if err == nil {
				c.conns = append(c.conns, g)
				c.alive.Add(1)
				go c.listen(g)
			} else if failed == nil {
				failed = err
			}
			c.mutex.Unlock()
			<-gate
			all.Done()
		}()
	}
	all.Wait()
	return failed
}

// enter makes one connection. Nothing but the answer's head is read.
func enter(address, path string, secure bool) (*guest, error) {
	conn, err := net.DialTimeout("tcp4", address, patience)
	if err != nil {
		return nil, err
	}
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	conn.SetDeadline(time.Now().Add(patience))
	request, accept := upgradeRequest(address, path)
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, headEnd); head = append(head, one...) {
		if _, err := conn.Read(one); err != nil {
			return nil, fmt.Errorf("the handshake was not answered: %w", err)
		}
		if len(head) > mostHead {
			return nil, errors.New("the handshake was answered with too much")
		}
	}
	if err := checkAnswer(head, accept); err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	return &guest{Conn: conn, echoed: make(chan struct{}, 1)}, nil
}

// listen answers pings until the connection ends.
func (c *crowd) listen(g *guest) {
	defer c.alive.Done()
	var d decoder
	var control []byte
	buffer := make([]byte, 512)
	for {
		n, err := g.Read(buffer)
		if err != nil {
			if atomic.LoadInt32(&g.leaving) == 0 {
				atomic.AddInt64(&c.lost, 1)
			}
			return
		}
		for data := buffer[:n]; len(data) > 0; {
			found, rest, err := d.next(data)
			if err != nil {
				return
			}
			data = rest
			control = append(control, found.payload...)
			if !found.ended {
				continue
			}
			switch d.first & 0x0f {
			case opPing:
				atomic.AddInt64(&c.pings, 1)
				g.send(opPong, control)
			case opText:
				g.echoed <- struct{}{}
			}
			control = control[:0]
		}
	}
}

func (g *guest) send(opcode byte, payload []byte) error {
	g.writing.Lock()
	defer g.writing.Unlock()
	_, err := g.Write(appendFrame(nil, opcode, payload, &[4]byte{1, 2, 3, 4}))
	return err
}

func (c *crowd) echo() error {
	message := []byte(strings.Repeat("x", 64))
	for _, g := range c.conns {
		if err := g.send(opText, message); err != nil {
			return err
		}
	}
	late := time.After(patience)
	for _, g := range c.conns {
		select {
		case <-g.echoed:
		case <-late:
			return errors.New("messages did not come back")
		}
	}
	return nil
}

func (c *crowd) close() {
	for _, g := range c.conns {
		atomic.StoreInt32(&g.leaving, 1)
		g.send(opClose, []byte{1000 >> 8, 1000 & 0xff})
	}
	ended := make(chan struct{})
	go func() { c.alive.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
	}
	for _, g := range c.conns {
		g.Close()
	}
	<-ended
	c.conns = nil
}
