package smtp

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
)

// XCLIENT, Postfix's command for a proxy in front to tell whose session it carries:
//
//	XCLIENT 1*( SP attribute "=" xtext )
//	attribute = NAME / ADDR / PORT / PROTO / HELO / LOGIN / DESTADDR / DESTPORT
//
// It is heeded from Server.TrustXClient only. The session begins anew with it.

const xclientAttributes = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"

// trusted reports whether the peer itself may speak for others.
func (c *conn) trusted() bool {
	if len(c.srv.TrustXClient) == 0 {
		return false
	}
	peer := c.peer
	if !peer.IsValid() {
		return false
	}
	for _, p := range c.srv.TrustXClient {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// xclient does XCLIENT.
func (c *conn) xclient(ctx context.Context, arg []byte) (*Reply, error) {
	switch {
	case !c.trusted():
		c.log(ctx, slog.LevelInfo, "XCLIENT from an address not trusted")
		return &Reply{Code: 550, Enhanced: EnhancedCode{5, 7, 0}, Text: "XCLIENT is not for you"}, nil
	case c.inTx:
		return replySequence, nil
	case len(arg) == 0:
		return errParamSyntax, nil
	}
	s := c.sess // on trial
	for field := range bytes.FieldsSeq(arg) {
		key, value, ok := bytes.Cut(field, []byte{'='})
		text, err := decodeXtext(value, true)
		if !ok || err != nil || !s.set(strings.ToUpper(string(key)), text) {
			return errParamSyntax, nil
		}
	}
	s.authed = s.Identity != ""
	c.sess = s
	c.log(ctx, slog.LevelDebug, "XCLIENT", slog.String("via", c.peer.String()))
	// The handler sees the client come, as it would without the proxy.
	if err := c.srv.Handler.Connect(ctx, &c.sess); err != nil {
		if r := c.judge(ctx, "XCLIENT", err); !r.OK() {
			r2 := *r
			r2.Close = true
			return &r2, nil
		}
	}
	if err := c.reply(&Reply{Code: 220, Text: c.conf.hostname + " " + c.conf.greeting}, true); err != nil {
		return nil, err
	}
	return nil, nil
}

// set takes one attribute over. "[UNAVAILABLE]" and "[TEMPUNAVAIL]" say that there is none.
func (s *Session) set(key, v string) bool {
	gone := v == "[UNAVAILABLE]" || v == "[TEMPUNAVAIL]"
	switch key {
	case "ADDR", "DESTADDR":
		var a netip.Addr
		if !gone {
			var err error
			if a, err = netip.ParseAddr(strings.TrimPrefix(strings.TrimPrefix(v, "IPV6:"), "IPv6:")); err != nil {
				return false
			}
			a = a.Unmap()
		}
		if key == "ADDR" {
			s.Remote = netip.AddrPortFrom(a, s.Remote.Port())
		} else {
			s.Local = netip.AddrPortFrom(a, s.Local.Port())
		}
	case "PORT", "DESTPORT":
		var n uint64
		if !gone {
			var err error
			if n, err = strconv.ParseUint(v, 10, 16); err != nil {
				return false
			}
		}
		if key == "PORT" {
			s.Remote = netip.AddrPortFrom(s.Remote.Addr(), uint16(n))
		} else {
			s.Local = netip.AddrPortFrom(s.Local.Addr(), uint16(n))
		}
	case "HELO":
		s.Hello = v
		if gone {
			s.Hello = ""
		}
	case "PROTO":
		s.Extended = strings.EqualFold(v, "ESMTP")
		return gone || s.Extended || strings.EqualFold(v, "SMTP")
	case "LOGIN":
		s.Identity, s.Mechanism = v, "XCLIENT"
		if gone {
			s.Identity, s.Mechanism = "", ""
		}
	case "NAME": // a claim about reverse DNS; whoever needs it looks it up
	default:
		return false
	}
	return true
}
