package smtp

import (
	"strconv"
	"time"
)

// appendTo appends p as it stands behind MAIL FROM:<...>.
func (p *MailParams) appendTo(b []byte) []byte {
	if p.Size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), p.Size, 10)
	}
	switch p.Body {
	case Body7Bit:
		b = append(b, " BODY=7BIT"...)
	case Body8Bit:
		b = append(b, " BODY=8BITMIME"...)
	case BodyBinary:
		b = append(b, " BODY=BINARYMIME"...)
	}
	if p.UTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	switch p.Return {
	case ReturnFull:
		b = append(b, " RET=FULL"...)
	case ReturnHeaders:
		b = append(b, " RET=HDRS"...)
	}
	if p.EnvelopeID != "" {
		b = appendXtext(append(b, " ENVID="...), p.EnvelopeID)
	}
	switch p.Auth {
	case "":
	case "<>":
		b = append(b, " AUTH=<>"...)
	default:
		b = appendXtext(append(b, " AUTH="...), p.Auth)
	}
	if p.RequireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	if p.HoldFor > 0 {
		b = strconv.AppendInt(append(b, " HOLDFOR="...), int64(p.HoldFor/time.Second), 10)
	}
	if !p.HoldUntil.IsZero() {
		b = p.HoldUntil.UTC().AppendFormat(append(b, " HOLDUNTIL="...), time.RFC3339)
	}
	if p.DeliverBy.Mode != 0 {
		b = strconv.AppendInt(append(b, " BY="...), p.DeliverBy.Seconds, 10)
		b = append(b, ';', p.DeliverBy.Mode)
		if p.DeliverBy.Trace {
			b = append(b, 'T')
		}
	}
	if p.Priority != 0 {
		b = strconv.AppendInt(append(b, " MT-PRIORITY="...), int64(p.Priority), 10)
	}
	if p.Solicit != "" {
		b = append(append(b, " SOLICIT="...), p.Solicit...)
	}
	return appendParams(b, p.Other)
}

// appendTo appends p as it stands behind RCPT TO:<...>.
func (p *RcptParams) appendTo(b []byte) []byte {
	if p.Notify != 0 {
		b = append(b, " NOTIFY="...)
		sep := false
		for _, w := range [...]struct {
			bit  Notify
			word string
		}{{NotifyNever, "NEVER"}, {NotifySuccess, "SUCCESS"}, {NotifyFailure, "FAILURE"}, {NotifyDelay, "DELAY"}} {
			if p.Notify&w.bit == 0 {
				continue
			}
			if sep {
				b = append(b, ',')
			}
			b, sep = append(b, w.word...), true
		}
	}
	if p.Original != "" {
		typ := p.OriginalType
		if typ == "" {
			typ = "rfc822"
		}
		b = append(append(append(b, " ORCPT="...), typ...), ';')
		if typ == "utf-8" {
			b = appendUTF8Xtext(b, p.Original)
		} else {
			b = appendXtext(b, p.Original)
		}
	}
	if !p.ValidSince.IsZero() {
		b = p.ValidSince.UTC().AppendFormat(append(b, " RRVS="...), time.RFC3339)
	}
	return appendParams(b, p.Other)
}

func appendParams(b []byte, params []Param) []byte {
	for _, p := range params {
		b = append(append(b, ' '), p.Key...)
		if p.Value != "" {
			b = append(append(b, '='), p.Value...)
		}
	}
	return b
}
