package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// A header stands at the very beginning of a connection (section 2 of the specification):
//
//	version 1 = "PROXY" SP ( "TCP4" / "TCP6" ) SP source SP destination SP source-port SP destination-port CRLF
//	          / "PROXY" SP "UNKNOWN" ... CRLF                                    ; at most 107 octets
//	version 2 = signature(12) version/command(1) family/protocol(1) length(2) addresses(length)
//
// It is read without a buffer, never past its end, so that what follows is left to the connection.

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"
	maxV1      = 107
	maxV2      = 4096 // of addresses and what is tacked on to them
)

// ErrHeader says that a trusted peer sent something else than a header.
var ErrHeader = errors.New("proxyproto: not a PROXY header")

// addresses are what a header says. They are nil when it says that the connection is
// the proxy's own (a health check) or that it does not know.
type addresses struct{ source, destination net.Addr }

// readHeader reads a header of either version.
func readHeader(r io.Reader) (a addresses, err error) {
	// The shortest of either, "PROXY UNKNOWN" CRLF, is longer than this.
	var start [len(signature2)]byte
	if _, err := io.ReadFull(r, start[:]); err != nil {
		return a, err
	}
	switch {
	case string(start[:]) == signature2:
		return readV2(r)
	case bytes.HasPrefix(start[:], []byte(signature1)):
		return readV1(r, start[:])
	}
	return a, ErrHeader
}

// readV1 reads the rest of a line that begins with start.
func readV1(r io.Reader, start []byte) (a addresses, err error) {
	line := append(make([]byte, 0, maxV1), start...)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxV1 {
			return a, fmt.Errorf("%w: line too long", ErrHeader)
		}
		n := len(line)
		line = line[:n+1]
		if _, err := io.ReadFull(r, line[n:]); err != nil {
			return a, err
		}
	}
	field := strings.Split(string(line[:len(line)-2]), " ")
	if field[1] == "UNKNOWN" {
		return a, nil
	}
	if len(field) != 6 {
		return a, fmt.Errorf("%w: %d fields", ErrHeader, len(field))
	}
	source, ok1 := parseV1(field[1], field[2], field[4])
	destination, ok2 := parseV1(field[1], field[3], field[5])
	if !ok1 || !ok2 {
		return a, fmt.Errorf("%w: bad address", ErrHeader)
	}
	return addresses{source, destination}, nil
}

func parseV1(family, addr, port string) (net.Addr, bool) {
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || !(family == "TCP4" && a.Is4() || family == "TCP6" && a.Is6()) {
		return nil, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return nil, false
	}
	return tcpAddr(a, uint16(n)), true
}

// readV2 reads what follows the signature.
func readV2(r io.Reader) (a addresses, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return a, err
	}
	if head[0]>>4 != 2 || head[0]&15 > 1 {
		return a, fmt.Errorf("%w: version and command %#02x", ErrHeader, head[0])
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	if n > maxV2 {
		return a, fmt.Errorf("%w: %d octets", ErrHeader, n)
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return a, err
	}
	if head[0]&15 == 0 { // LOCAL
		return a, nil
	}
	size := 0
	switch head[1] {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	default: // unspecified, UDP, Unix: nothing that a mail server could use
		return a, nil
	}
	if n < 2*size+4 {
		return a, fmt.Errorf("%w: %d octets of addresses", ErrHeader, n)
	}
	source, _ := netip.AddrFromSlice(rest[:size])
	destination, _ := netip.AddrFromSlice(rest[size : 2*size])
	ports := rest[2*size:]
	return addresses{tcpAddr(source, binary.BigEndian.Uint16(ports)), tcpAddr(destination, binary.BigEndian.Uint16(ports[2:]))}, nil
}

func tcpAddr(a netip.Addr, port uint16) net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Unmap(), port))
}
