package middleware

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

// FixUp adds what a submitted message must have and its client left out: Date and Message-ID (RFC
// 6409, 8.2, 8.3), the latter under the domain given; empty means the Server's hostname.
func FixUp(domain string) smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler { return fixUp{smtp.Pass{Handler: next}, domain} }
}

type fixUp struct {
	smtp.Pass
	domain string
}

func (h fixUp) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	header, rest, err := peekHeader(body)
	if err != nil {
		return nil, err
	}
	date, id := false, false
	fields(header, func(name []byte) bool {
		date = date || bytes.EqualFold(name, []byte("Date"))
		id = id || bytes.EqualFold(name, []byte("Message-ID"))
		return !date || !id
	})
	var add strings.Builder
	if !id {
		domain := h.domain
		if domain == "" {
			domain = tx.Session.Hostname
		}
		add.WriteString("Message-ID: <" + strings.ToLower(rand.Text()) + "@" + domain + ">\r\n")
	}
	if !date {
		add.WriteString("Date: " + time.Now().Format("Mon, 02 Jan 2006 15:04:05 -0700") + "\r\n")
	}
	return h.Pass.Data(ctx, tx, io.MultiReader(strings.NewReader(add.String()), rest))
}
