package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand"
)

const (
	guid     = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	mostHead = 16 << 10
)

var headEnd = []byte("\r\n\r\n")

// upgradeRequest makes a client's opening and the accept value that it must be answered with. The
// key differs each time: a proxy must not gain from a head that it has seen before.
func upgradeRequest(address, path string) (request []byte, accept string) {
	var nonce [16]byte
	binary.LittleEndian.PutUint64(nonce[:], rand.Uint64())
	binary.LittleEndian.PutUint64(nonce[8:], rand.Uint64())
	key := base64.StdEncoding.EncodeToString(nonce[:])
	head := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: " + key + "\r\n\r\n"
	return []byte(head), acceptFor(key)
}

func acceptFor(key string) string {
	digest := sha1.Sum([]byte(key + guid))
	return base64.StdEncoding.EncodeToString(digest[:])
}

// checkAnswer looks at the server's head, which ends with its empty line.
func checkAnswer(head []byte, accept string) error {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return fmt.Errorf("the handshake was answered %q", line)
	}
	if string(field(head, "sec-websocket-accept")) != accept {
		return fmt.Errorf("the handshake was answered with a wrong Sec-WebSocket-Accept")
	}
	return nil
}

// field finds a field's value by its name in lower case; nil when it is not there.
func field(head []byte, name string) []byte {
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, []byte("\r\n"))
		if len(line) > len(name) && line[len(name)] == ':' &&
			bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name)+1:])
		}
	}
	return nil
}
