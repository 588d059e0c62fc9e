// Package envcodec is the stored form of envelopes and of recipients' states, shared by the stores that keep
// them as bytes.
//
//	envelope  = version string(ReversePath) string(EnvID) string(Tag) flags kind(Body) kind(Return)
//	            priority time(HoldUntil) time(Expires) time(Arrived) [time(DeliverBy)] count recipient*
//	recipient = string(Address) notify string(ORcpt) string(Route) state
//	state     = status attempts warned time(Due) result code string(Enhanced) string(Text)
//	            string(RemoteMTA) after handover
//
// Numbers are varints (encoding/binary), strings a count and their octets, times nanoseconds since
// 1970 with 0 for none. A version this package does not know is an error.
package envcodec

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

const version = 1

// ErrFormat: the octets are not what Append wrote.
var ErrFormat = errors.New("queue: stored envelope is damaged")

const (
	flagUTF8 = 1 << iota
	flagRequireTLS
	flagBy // there is a DeliverBy
	flagByReturn
	flagByTrace
)

// Append appends the stored form of e.
func Append(b []byte, e *queue.Envelope) []byte {
	b = append(b, version)
	b = AppendString(b, e.ReversePath)
	b = AppendString(b, e.EnvID)
	b = AppendString(b, e.Tag)
	var flags byte
	if e.UTF8 {
		flags |= flagUTF8
	}
	if e.RequireTLS {
		flags |= flagRequireTLS
	}
	by := &e.DeliverBy
	if !by.Time.IsZero() {
		flags |= flagBy
		if by.Return {
			flags |= flagByReturn
		}
		if by.Trace {
			flags |= flagByTrace
		}
	}
	b = append(b, flags, byte(e.Body), byte(e.Return), byte(e.Priority))
	b = AppendTime(b, e.HoldUntil)
	b = AppendTime(b, e.Expires)
	b = AppendTime(b, e.Arrived)
	if flags&flagBy != 0 {
		b = AppendTime(b, by.Time)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Recipients)))
	for i := range e.Recipients {
		r := &e.Recipients[i]
		b = AppendString(b, r.Address)
		b = append(b, byte(r.Notify))
		b = AppendString(b, r.ORcpt)
		b = AppendString(b, r.Route)
		b = AppendState(b, r)
	}
	return b
}

// AppendState appends what Settle changes of a recipient.
func AppendState(b []byte, r *queue.Recipient) []byte {
	b = append(b, byte(r.Status))
	b = binary.AppendVarint(b, int64(r.Attempts))
	warned := byte(0)
	if r.Warned {
		warned = 1
	}
	b = append(b, warned)
	b = AppendTime(b, r.Due)
	b = append(b, byte(r.Last.Result))
	b = binary.AppendVarint(b, int64(r.Last.Code))
	b = AppendString(b, r.Last.Enhanced)
	b = AppendString(b, r.Last.Text)
	b = AppendString(b, r.Last.RemoteMTA)
	b = binary.AppendVarint(b, int64(r.Last.After))
	return append(b, byte(r.Last.Handover))
}

// AppendTime appends a time.
func AppendTime(b []byte, t time.Time) []byte { return binary.AppendVarint(b, Nanos(t)) }

// Nanos gives a time as nanoseconds since 1970, 0 for none. What is too far away for that, which
// only a sender's wish for a hold can be, is the farthest there is.
func Nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Unix() >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	case t.Unix() <= math.MinInt64/int64(time.Second):
		return math.MinInt64
	}
	return t.UnixNano()
}

// AppendString appends a string.
func AppendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Decode reads an envelope that fills b.
func Decode(b []byte) (*queue.Envelope, error) {
	r := NewReader(b)
	if r.Byte() != version {
		return nil, ErrFormat
	}
	e := &queue.Envelope{ReversePath: r.String(), EnvID: r.String(), Tag: r.String()}
	flags := r.Byte()
	e.UTF8, e.RequireTLS = flags&flagUTF8 != 0, flags&flagRequireTLS != 0
	e.Body, e.Return, e.Priority = queue.BodyKind(r.Byte()), queue.ReturnKind(r.Byte()), int8(r.Byte())
	e.HoldUntil, e.Expires, e.Arrived = r.Time(), r.Time(), r.Time()
	if flags&flagBy != 0 {
		e.DeliverBy = queue.DeliverBy{Time: r.Time(), Return: flags&flagByReturn != 0, Trace: flags&flagByTrace != 0}
	}
	n := r.Uvarint()
	if n > uint64(len(b)) { // each recipient takes more than an octet
		return nil, ErrFormat
	}
	e.Recipients = make([]queue.Recipient, 0, n)
	for range n {
		rcpt := queue.Recipient{Address: r.String(), Notify: queue.Notify(r.Byte()), ORcpt: r.String(), Route: r.String()}
		r.State(&rcpt)
		if r.Err() != nil {
			break
		}
		e.Recipients = append(e.Recipients, rcpt)
	}
	if r.Err() != nil || r.Len() != 0 || n == 0 {
		return nil, ErrFormat
	}
	return e, nil
}

// ReversePath reads no more of a stored envelope than that; "" when it is damaged.
func ReversePath(b []byte) string {
	r := NewReader(b)
	r.Byte()
	return r.String()
}

// A Reader takes values off a slice. After the first that is not there all are zero and Err is ErrFormat.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a Reader of b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns ErrFormat when something could not be read.
func (r *Reader) Err() error { return r.err }

// Len returns how many octets are left.
func (r *Reader) Len() int { return len(r.b) }

// Rest returns what is left.
func (r *Reader) Rest() []byte { return r.b }

func (r *Reader) fail() {
	r.err = ErrFormat
	r.b = nil
}

// Byte reads one octet.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// Uvarint reads an unsigned number.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Varint reads a signed number.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// String reads a string.
func (r *Reader) String() string {
	n := r.Uvarint()
	if n > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// Time reads a time.
func (r *Reader) Time() time.Time {
	n := r.Varint()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// State reads what AppendState wrote into rcpt.
func (r *Reader) State(rcpt *queue.Recipient) {
	rcpt.Status = queue.Status(r.Byte())
	rcpt.Attempts = int(r.Varint())
	rcpt.Warned = r.Byte() != 0
	rcpt.Due = r.Time()
	rcpt.Last = queue.Outcome{
		Result: queue.Result(r.Byte()), Code: int(r.Varint()), Enhanced: r.String(), Text: r.String(),
		RemoteMTA: r.String(), After: time.Duration(r.Varint()), Handover: queue.Handover(r.Byte()),
	}
}
