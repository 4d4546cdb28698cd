// Sockets is both ends of WebSocket traffic, as raw frames (RFC 6455) over sockets:
//
//	sockets serve -listen HOST:PORT   the upstream: echoes messages, answers pings and Close
//	sockets echo                      connections that each send a message when the one before is back
//	sockets steady                    a constant rate; latency counts from when a message was due
//	sockets handshake                 connections opened and closed, frames and all
//	sockets idle                      connections that do nothing, as told on standard input
//
// echo, steady and handshake print {"ready":N} when they have their connections, wait for a line on
// standard input, measure, and print one JSON object. Every byte that comes back is compared.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
)

const prSetTimerslack = 29

type options struct {
	listen, address, path string
	size, connections     int
	text                  bool
	rate, warm, seconds   float64
}

func main() {
	var o options
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	flags := flag.NewFlagSet("sockets "+mode, flag.ExitOnError)
	flags.StringVar(&o.listen, "listen", "127.0.0.1:9000", "serve: IPv4 host:port")
	flags.StringVar(&o.address, "address", "127.0.0.1:8080", "IPv4 host:port of the proxy")
	flags.StringVar(&o.path, "path", "/echo", "request target")
	flags.IntVar(&o.size, "size", 64, "bytes of a message")
	flags.BoolVar(&o.text, "text", false, "text messages in place of binary ones")
	flags.IntVar(&o.connections, "connections", 64, "connections")
	flags.Float64Var(&o.rate, "rate", 1000, "steady: messages per second, all connections together")
	flags.Float64Var(&o.warm, "warm", 0.5, "steady: seconds before the measurement")
	flags.Float64Var(&o.seconds, "seconds", 3, "how long to measure")
	if mode != "" {
		flags.Parse(os.Args[2:])
	}
	if err := run(mode, o); err != nil {
		fmt.Fprintln(os.Stderr, "sockets:", err)
		os.Exit(1)
	}
}

func run(mode string, o options) error {
	switch mode {
	case "serve":
		return serve(o.listen)
	case "idle":
		return idle()
	case "echo", "steady", "handshake":
		return measure(mode, o)
	}
	return fmt.Errorf("not a mode: %q", mode)
}

func measure(mode string, o options) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	// The kernel may round timeouts of ordinary threads up by 50 us; ask for 1 ns.
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, 1, 0)
	if mode == "handshake" {
		c, err := newCycles(o.address, o.path)
		if err != nil {
			return err
		}
		begin(0)
		return say(c.run(o.connections, o.seconds))
	}
	c, err := newClients(o.size, o.text)
	if err != nil {
		return err
	}
	if err := c.open(o.address, o.path, o.connections); err != nil {
		return err
	}
	begin(o.connections)
	var result outcome
	if mode == "echo" {
		result, err = c.echo(o.seconds)
	} else {
		result, err = c.steady(o.rate, o.warm, o.seconds)
	}
	if err := say(result, err); err != nil {
		return err
	}
	c.close()
	return nil
}

// begin says that all is prepared and waits for the word to go.
func begin(connections int) {
	json.NewEncoder(os.Stdout).Encode(map[string]int{"ready": connections})
	bufio.NewReader(os.Stdin).ReadString('\n')
}

func say(result outcome, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
