package middleware

import (
	"bytes"
	"context"
	"io"
	"net/mail"
	"strings"

	"github.com/mailblocks/mailblocks/smtp"
)

// FixSender puts a Sender field on top of messages whose From is not, or not only, the submitter's own
// address, and takes away a Sender that claims another (RFC 6409, 8.1; RFC 5322, 3.6.2). address says
// which address an identity has; "" leaves the message alone. Nil takes the identity itself for it, if
// it is an address.
func FixSender(address func(ctx context.Context, identity string) (string, error)) smtp.Middleware {
	if address == nil {
		address = func(_ context.Context, identity string) (string, error) {
			if strings.IndexByte(identity, '@') < 0 {
				return "", nil
			}
			return identity, nil
		}
	}
	return func(next smtp.Handler) smtp.Handler { return fixSender{smtp.Pass{Handler: next}, address} }
}

type fixSender struct {
	smtp.Pass
	address func(ctx context.Context, identity string) (string, error)
}

func (h fixSender) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	identity := tx.Session.Identity
	if identity == "" {
		return h.Pass.Data(ctx, tx, body)
	}
	own, err := h.address(ctx, identity)
	if err != nil {
		return nil, err
	}
	if own == "" {
		return h.Pass.Data(ctx, tx, body)
	}
	header, rest, err := peekHeader(body)
	if err != nil {
		return nil, err
	}
	from, _ := addressesOf(header, "From")
	sender, at := addressesOf(header, "Sender")
	switch {
	case only(own, sender), len(at) == 0 && only(own, from):
		return h.Pass.Data(ctx, tx, rest)
	}
	// The header is written anew without its Sender fields; rest begins with it, too.
	if _, err := io.CopyN(io.Discard, rest, int64(len(header))); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if !only(own, from) {
		b.WriteString("Sender: <" + own + ">\r\n")
	}
	last := 0
	for _, field := range at {
		b.Write(header[last:field[0]])
		last = field[1]
	}
	b.Write(header[last:])
	return h.Pass.Data(ctx, tx, io.MultiReader(&b, rest))
}

// only reports whether own is the one address of the list.
func only(own string, list []string) bool {
	if len(list) != 1 {
		return false
	}
	local, domain := smtp.SplitAddress(own)
	l, d := smtp.SplitAddress(list[0])
	return l == local && smtp.SameDomain(d, domain)
}

// addressesOf returns the addresses in all fields of a name, and where those fields begin and end. A field
// that can not be read counts as an address that is nobody's.
func addressesOf(header []byte, name string) (list []string, at [][2]int) {
	for i := 0; i < len(header); {
		end := i + fieldLen(header[i:])
		key, value, ok := bytes.Cut(header[i:end], []byte(":"))
		if ok && bytes.EqualFold(bytes.TrimRight(key, " \t"), []byte(name)) {
			at = append(at, [2]int{i, end})
			all, err := mail.ParseAddressList(string(bytes.ReplaceAll(value, []byte("\r\n"), nil)))
			if err != nil {
				list = append(list, "")
			}
			for _, a := range all {
				list = append(list, a.Address)
			}
		}
		i = end
	}
	return list, at
}

// fieldLen is the length of the field at the start of b, its continuation lines included.
func fieldLen(b []byte) int {
	for i := 0; ; {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return len(b)
		}
		if i += n + 1; i == len(b) || b[i] != ' ' && b[i] != '\t' {
			return i
		}
	}
}
