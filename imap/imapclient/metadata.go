package imapclient

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// MetadataOptions are the optional parts of Metadata (RFC 5464, 4.2).
type MetadataOptions struct {
	// MaxSize leaves out values of more octets. Zero: no limit.
	MaxSize uint32
	// Depth includes what is below the entries: 1 for what is right below, -1 for all.
	Depth int
}

// metadataResponse is a METADATA response: with values, or a list of entries that changed.
type metadataResponse struct {
	mailbox string
	values  map[string]*string // nil: NIL, there is none
	keys    []string
}

// Metadata returns annotations of a mailbox, or of the server when the mailbox is empty
// (RFC 5464). Entries are as "/private/comment"; those without a value are left out.
func (c *Client) Metadata(ctx context.Context, mailbox string, opts *MetadataOptions, entries ...string) (map[string]string, error) {
	if err := c.needMetadata(ctx, mailbox); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: no entry", ErrArgument)
	}
	if opts == nil {
		opts = new(MetadataOptions)
	}
	got := make(map[string]string)
	cmd := &command{name: "GETMETADATA", take: func(r any) bool {
		m, ok := r.(*metadataResponse)
		if !ok || m.mailbox != mailbox || m.keys != nil {
			return false
		}
		for k, v := range m.values {
			if v != nil {
				got[k] = *v
			}
		}
		return true
	}}
	_, err := c.run(ctx, cmd, func(w *writer) {
		sep := " ("
		if opts.MaxSize > 0 {
			w.raw(fmt.Sprintf(" (MAXSIZE %d", opts.MaxSize))
			sep = " "
		}
		if opts.Depth != 0 {
			depth := "1"
			if opts.Depth < 0 {
				depth = "infinity"
			}
			w.raw(sep + "DEPTH " + depth)
			sep = " "
		}
		if sep == " " {
			w.raw(")")
		}
		w.sp().mailbox(mailbox).sp().astrings(entries)
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// SetMetadata sets annotations of a mailbox, or of the server when the mailbox is empty. A
// nil value removes one.
func (c *Client) SetMetadata(ctx context.Context, mailbox string, values map[string]*string) error {
	if err := c.needMetadata(ctx, mailbox); err != nil {
		return err
	}
	_, err := c.run(ctx, &command{name: "SETMETADATA"}, func(w *writer) {
		w.sp().mailbox(mailbox).sp()
		w.list(slices.Sorted(maps.Keys(values)), func(key string) {
			w.astring(key).sp()
			switch v := values[key]; {
			case v == nil:
				w.raw("NIL")
			case strings.IndexByte(*v, 0) >= 0:
				w.literal(strings.NewReader(*v), int64(len(*v)), true)
			default:
				w.str(*v)
			}
		})
	})
	return err
}

func (c *Client) needMetadata(ctx context.Context, mailbox string) error {
	if mailbox == "" {
		return c.need(ctx, "METADATA-SERVER", "METADATA")
	}
	return c.need(ctx, "METADATA")
}

func takeMetadata(c *Client, d *wire.Decoder) *metadataResponse {
	r := &metadataResponse{values: make(map[string]*string)}
	d.SP()
	r.mailbox = takeName(c, d)
	d.SP()
	if d.Peek() != '(' {
		r.keys = []string{d.AString()}
		r.keys = append(r.keys, takeTexts(d)...)
		return r
	}
	d.List(func() {
		key := d.AString()
		d.SP()
		r.values[key] = takeNString8(d)
	})
	return r
}

// takeNString8 takes a string, a literal8 held in memory, or NIL.
func takeNString8(d *wire.Decoder) *string {
	if d.Peek() != '~' {
		if s, ok := d.NString(); ok {
			return &s
		}
		return nil
	}
	n, _ := d.Literal()
	if n > int64(d.MaxLiteral) {
		d.Fail("a literal of %d octets", n)
		return nil
	}
	b, _ := io.ReadAll(d.LiteralReader())
	d.LiteralDone()
	s := string(b)
	return &s
}

// URLAuth has the server sign IMAP URLs (RFC 4467), each of which ends in its access
// identifier, as ";urlauth=anonymous", and returns them as who has them may use them.
func (c *Client) URLAuth(ctx context.Context, urls ...string) ([]string, error) {
	if err := c.need(ctx, "URLAUTH"); err != nil {
		return nil, err
	}
	return one[genURLs](ctx, c, &command{name: "GENURLAUTH"}, func(w *writer) {
		for _, u := range urls {
			w.sp().str(u).raw(" INTERNAL")
		}
	})
}

// ResetKey makes all URLs signed for a mailbox worthless, or for all of them when the mailbox
// is empty.
func (c *Client) ResetKey(ctx context.Context, mailbox string) error {
	if err := c.need(ctx, "URLAUTH"); err != nil {
		return err
	}
	if mailbox == "" {
		return c.simple(ctx, "RESETKEY")
	}
	return c.named(ctx, "RESETKEY", mailbox)
}

// urlFetched is a URLFETCH response.
type urlFetched map[string]*string

// URLFetch returns what signed URLs stand for, by URL, as far as they can be had. The texts are
// held in memory: ClientOptions.MaxResponse bounds them.
func (c *Client) URLFetch(ctx context.Context, urls ...string) (map[string]string, error) {
	if err := c.need(ctx, "URLAUTH"); err != nil {
		return nil, err
	}
	got := make(map[string]string)
	cmd := &command{name: "URLFETCH", take: func(r any) bool {
		m, ok := r.(urlFetched)
		for u, text := range m {
			if text != nil {
				got[u] = *text
			}
		}
		return ok
	}}
	_, err := c.run(ctx, cmd, func(w *writer) {
		for _, u := range urls {
			w.sp().str(u)
		}
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

func takeURLFetch(d *wire.Decoder) urlFetched {
	m := make(urlFetched)
	for d.Accept(' ') {
		u := d.AString()
		d.SP()
		m[u] = takeNString8(d)
	}
	return m
}
