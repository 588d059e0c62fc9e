package proxyproto

import (
	"bytes"
	"net"
	"testing"
)

func FuzzHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.1 198.51.100.2 1234 25\r\nEHLO"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(signature2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x00\x19EHLO"))
	f.Add([]byte(signature2 + "\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		a, err := readHeader(r)
		if err != nil {
			return
		}
		used := in[:len(in)-r.Len()]
		if used[0] == 'P' && !bytes.HasSuffix(used, []byte("\r\n")) || bytes.Count(used, []byte("\r\n")) > 1 && used[0] == 'P' {
			t.Fatalf("read past its line: %q", used)
		}
		if (a.source == nil) != (a.destination == nil) {
			t.Fatalf("%q: half an address", used)
		}
		if a.source == nil {
			return
		}
		src, dst := a.source.(*net.TCPAddr), a.destination.(*net.TCPAddr)
		if src.AddrPort().Addr().Zone() != "" || !src.AddrPort().IsValid() || !dst.AddrPort().IsValid() {
			t.Fatalf("%q: %v %v", used, src, dst)
		}
	})
}
