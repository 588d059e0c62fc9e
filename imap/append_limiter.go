package imap

import "context"

// AppendLimiter is implemented by mailboxes that take no message larger than some size of
// their own (RFC 7889). Append and Copy report ErrTooBig for one that is.
type AppendLimiter interface {
	// AppendLimit returns the limit in octets, zero for none.
	AppendLimit(ctx context.Context) (int64, error)
}

// AppendLimit returns the limit of m, or limit when m has none or a larger one. Zero stands
// for no limit.
func AppendLimit(ctx context.Context, m Mailbox, limit int64) (int64, error) {
	l, ok := Upgrade[AppendLimiter](m)
	if !ok {
		return limit, nil
	}
	own, err := l.AppendLimit(ctx)
	if err != nil || own <= 0 || limit > 0 && limit < own {
		return limit, err
	}
	return own, nil
}
