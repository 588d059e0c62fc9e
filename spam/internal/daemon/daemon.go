// Package daemon is what the checks that ask another program over a socket have in common.
package daemon

import (
	"context"
	"fmt"
	"net"
	"strings"
)

// Dial connects to "host:port" or "unix:/path". The connection fails at once when ctx ends, whatever it is at;
// release ends that watch and closes it.
func Dial(ctx context.Context, addr string) (conn net.Conn, release func(), err error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	conn, err = new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

// Trouble puts the end of ctx in the place of the error that it made of a connection, and says who failed.
func Trouble(ctx context.Context, who string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("%s: %w", who, err)
}

// Clean makes one line of valid UTF-8 of what somebody said.
func Clean(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?")))
}

// Text is Clean, cut to what fits a Reason.
func Text(s string) string { return Clean(s[:min(len(s), 200)]) }
