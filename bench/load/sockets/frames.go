package main

import (
	"encoding/binary"
	"errors"
)

// Opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

const (
	final       = 0x80
	longestHead = 14
	mostControl = 125
)

// appendHead writes a frame's header. `first` is the opcode with its flags; no key, no mask bit.
func appendHead(to []byte, first byte, length uint64, key *[4]byte) []byte {
	var bit byte
	if key != nil {
		bit = 0x80
	}
	switch {
	case length < 126:
		to = append(to, first, bit|byte(length))
	case length < 1<<16:
		to = append(to, first, bit|126, byte(length>>8), byte(length))
	default:
		to = append(to, first, bit|127)
		to = binary.BigEndian.AppendUint64(to, length)
	}
	if key != nil {
		to = append(to, key[:]...)
	}
	return to
}

// appendFrame writes a whole, final frame, masked when there is a key.
func appendFrame(to []byte, opcode byte, payload []byte, key *[4]byte) []byte {
	to = appendHead(to, final|opcode, uint64(len(payload)), key)
	start := len(to)
	to = append(to, payload...)
	if key != nil {
		mask(to[start:], *key, 0)
	}
	return to
}

// mask masks or unmasks in place; `at` is how far into the payload `data` begins.
func mask(data []byte, key [4]byte, at uint64) {
	var turned [8]byte
	for i := range turned {
		turned[i] = key[(at+uint64(i))&3]
	}
	wide := binary.LittleEndian.Uint64(turned[:])
	for len(data) >= 32 { // unrolled: this is what the upstream spends on large messages
		four := data[:32]
		binary.LittleEndian.PutUint64(four, binary.LittleEndian.Uint64(four)^wide)
		binary.LittleEndian.PutUint64(four[8:], binary.LittleEndian.Uint64(four[8:])^wide)
		binary.LittleEndian.PutUint64(four[16:], binary.LittleEndian.Uint64(four[16:])^wide)
		binary.LittleEndian.PutUint64(four[24:], binary.LittleEndian.Uint64(four[24:])^wide)
		data = data[32:]
	}
	for len(data) >= 8 {
		binary.LittleEndian.PutUint64(data, binary.LittleEndian.Uint64(data)^wide)
		data = data[8:]
	}
	for i := range data {
		data[i] ^= turned[i]
	}
}

// decoder takes frames apart as their bytes come.
type decoder struct {
	first  byte // opcode and flags of the frame that is being read
	masked bool
	inside bool // a header has been read and its payload is not over
	key    [4]byte
	at     uint64 // payload read so far
	left   uint64 // payload still to come
	head   [longestHead]byte
	have   int // bytes in head
}

// piece is what one step of the decoder found: the beginning of a frame, some of its payload
// (unmasked), its end, or several of these at once.
type piece struct {
	payload        []byte
	length         uint64 // of the whole frame
	started, ended bool
}

var errLength = errors.New("a frame of 2^63 bytes or more")

// next takes the next piece from `data` and returns what is behind it. Payload is unmasked in place.
func (d *decoder) next(data []byte) (found piece, rest []byte, err error) {
	if !d.inside {
		if data = d.header(data); !d.inside {
			return piece{}, nil, nil
		}
		if d.left>>63 != 0 {
			return piece{}, nil, errLength
		}
		found.started = true
	}
	found.length = d.at + d.left
	n := uint64(len(data))
	if n > d.left {
		n = d.left
	}
	found.payload, rest = data[:n], data[n:]
	if d.masked {
		mask(found.payload, d.key, d.at)
	}
	d.at, d.left = d.at+n, d.left-n
	found.ended = d.left == 0
	d.inside = !found.ended
	return found, rest, nil
}

// header collects a header's bytes and returns those behind it; `inside` tells whether it is whole.
func (d *decoder) header(data []byte) []byte {
	for {
		need := 2
		if d.have >= 2 {
			need = headLength(d.head[1])
		}
		if d.have == need {
			break
		}
		if len(data) == 0 {
			return nil
		}
		n := copy(d.head[d.have:need], data)
		d.have, data = d.have+n, data[n:]
	}
	d.first, d.masked = d.head[0], d.head[1]&0x80 != 0
	at := 2
	switch short := d.head[1] & 0x7f; short {
	case 126:
		d.left, at = uint64(binary.BigEndian.Uint16(d.head[2:])), 4
	case 127:
		d.left, at = binary.BigEndian.Uint64(d.head[2:]), 10
	default:
		d.left = uint64(short)
	}
	if d.masked {
		copy(d.key[:], d.head[at:])
	}
	d.at, d.have, d.inside = 0, 0, true
	return data
}

func headLength(second byte) int {
	length := 2
	switch second & 0x7f {
	case 126:
		length = 4
	case 127:
		length = 10
	}
	if second&0x80 != 0 {
		length += 4
	}
	return length
}

func isControl(first byte) bool { return first&0x08 != 0 }
