package mimetree

import (
	"slices"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// AppendEnvelope appends e as ENVELOPE shows it (RFC 9051, 9: envelope). The result is
// valid syntax whatever e holds. With utf8, quoted strings may hold UTF-8.
func (e *Envelope) AppendEnvelope(b []byte, utf8 bool) []byte {
	b = append(b, '(')
	b = e.appendField(b, "date", e.Date, utf8)
	b = append(b, ' ')
	b = e.appendField(b, "subject", e.Subject, utf8)
	sender, replyTo := e.Sender, e.ReplyTo
	if len(sender) == 0 {
		sender = e.From
	}
	if len(replyTo) == 0 {
		replyTo = e.From
	}
	for _, list := range [][]Address{e.From, sender, replyTo, e.To, e.CC, e.BCC} {
		b = append(b, ' ')
		b = appendAddresses(b, list, utf8)
	}
	b = append(b, ' ')
	b = e.appendField(b, "in-reply-to", e.InReplyTo, utf8)
	b = append(b, ' ')
	b = e.appendField(b, "message-id", e.MessageID, utf8)
	return append(b, ')')
}

func (e *Envelope) appendField(b []byte, name, value string, utf8 bool) []byte {
	if value == "" && slices.Contains(e.Empty, name) {
		return append(b, `""`...)
	}
	return appendNString(b, value, utf8)
}

func appendAddresses(b []byte, list []Address, utf8 bool) []byte {
	if len(list) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for _, a := range list {
		b = append(b, '(')
		b = appendNString(b, a.Name, utf8)
		b = append(b, ' ')
		b = appendNString(b, a.Route, utf8)
		b = append(b, ' ')
		b = appendNString(b, a.Mailbox, utf8)
		b = append(b, ' ')
		b = appendNString(b, a.Host, utf8)
		b = append(b, ')')
	}
	return append(b, ')')
}

func appendNString(b []byte, s string, utf8 bool) []byte {
	if s == "" {
		return append(b, "NIL"...)
	}
	return wire.AppendString(b, s, utf8)
}

// AppendStructure appends p as BODYSTRUCTURE shows it, or as BODY when not extended
// (RFC 9051, 9: body). The result is valid syntax whatever p holds.
func (p *Part) AppendStructure(b []byte, extended, utf8 bool) []byte {
	b = append(b, '(')
	if p.IsMultipart() {
		for _, part := range p.Parts {
			b = part.AppendStructure(b, extended, utf8)
		}
		b = append(b, ' ')
		b = wire.AppendString(b, p.Subtype, utf8)
		if extended {
			b = append(b, ' ')
			b = appendParams(b, p.Params, utf8)
			b = p.appendExtension(b, utf8)
		}
		return append(b, ')')
	}
	b = wire.AppendString(b, p.Type, utf8)
	b = append(b, ' ')
	b = wire.AppendString(b, p.Subtype, utf8)
	b = append(b, ' ')
	isText := strings.EqualFold(p.Type, "text")
	params := p.Params
	if isText && p.Param("charset") == "" {
		params = append(params[:len(params):len(params)], Param{"charset", "us-ascii"}) // RFC 2046, 4.1.2
	}
	b = appendParams(b, params, utf8)
	b = append(b, ' ')
	b = appendNString(b, p.ID, utf8)
	b = append(b, ' ')
	b = appendNString(b, p.Description, utf8)
	b = append(b, ' ')
	encoding := p.Encoding
	if encoding == "" {
		encoding = "7bit"
	}
	b = wire.AppendString(b, encoding, utf8)
	b = append(b, ' ')
	b = strconv.AppendInt(b, p.Size(), 10)
	switch {
	case isText:
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Lines, 10)
	case p.Message != nil:
		b = append(b, ' ')
		b = p.Message.Envelope.AppendEnvelope(b, utf8)
		b = append(b, ' ')
		b = p.Message.AppendStructure(b, extended, utf8)
		b = append(b, ' ')
		b = strconv.AppendInt(b, p.Lines, 10)
	}
	if extended {
		b = append(b, ' ')
		b = appendNString(b, p.MD5, utf8)
		b = p.appendExtension(b, utf8)
	}
	return append(b, ')')
}

// appendExtension appends disposition, language and location.
func (p *Part) appendExtension(b []byte, utf8 bool) []byte {
	if p.Disposition == "" {
		b = append(b, " NIL"...)
	} else {
		b = append(b, " ("...)
		b = wire.AppendString(b, p.Disposition, utf8)
		b = append(b, ' ')
		b = appendParams(b, p.DispParams, utf8)
		b = append(b, ')')
	}
	if len(p.Language) == 0 {
		b = append(b, " NIL"...)
	} else {
		b = append(b, " ("...)
		for i, tag := range p.Language {
			if i > 0 {
				b = append(b, ' ')
			}
			b = wire.AppendString(b, tag, utf8)
		}
		b = append(b, ')')
	}
	b = append(b, ' ')
	return appendNString(b, p.Location, utf8)
}

func appendParams(b []byte, params []Param, utf8 bool) []byte {
	if len(params) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for i, p := range params {
		if i > 0 {
			b = append(b, ' ')
		}
		b = wire.AppendString(b, p.Name, utf8)
		b = append(b, ' ')
		b = wire.AppendString(b, p.Value, utf8)
	}
	return append(b, ')')
}
