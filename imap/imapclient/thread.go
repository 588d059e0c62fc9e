package imapclient

import (
	"context"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// ThreadBy is how messages are put into threads (RFC 5256, 3).
type ThreadBy string

// The algorithms.
const (
	ThreadOrderedSubject ThreadBy = "ORDEREDSUBJECT"
	ThreadReferences     ThreadBy = "REFERENCES"
	ThreadRefs           ThreadBy = "REFS"
)

// Thread is a message and the answers to it. A UID of zero stands for a message that is not
// there, whose answers are.
type Thread[T ~uint32] struct {
	Num     T
	Answers []*Thread[T]
}

// Threads looks for messages and returns them in threads, by UID.
func (c *Client) Threads(ctx context.Context, by ThreadBy, q Criteria) ([]*Thread[imap.UID], error) {
	return threads[imap.UID](ctx, c, &command{name: "UID THREAD", seq: q.usesSeqs()}, by, q)
}

// ThreadSeqs is Threads by sequence number.
func (c *Client) ThreadSeqs(ctx context.Context, by ThreadBy, q Criteria) ([]*Thread[imap.SeqNum], error) {
	return threads[imap.SeqNum](ctx, c, &command{name: "THREAD", seq: true, keepsSeq: true}, by, q)
}

func threads[T ~uint32](ctx context.Context, c *Client, cmd *command, by ThreadBy, q Criteria) ([]*Thread[T], error) {
	if _, err := q.check(); err != nil {
		return nil, err
	}
	if err := c.need(ctx, "THREAD="+string(by)); err != nil {
		return nil, err
	}
	r, err := one[*threadList](ctx, c, cmd, func(w *writer) {
		w.raw(" " + string(by) + " UTF-8 ")
		q.write(w)
	})
	if err != nil {
		return nil, err
	}
	return grow[T](r.roots), nil
}

// A threadList is a THREAD response: its nodes hold plain numbers.
type threadList struct{ roots []*Thread[uint32] }

// grow makes the numbers those of T. Chains are long: it goes along them without recursion.
func grow[T ~uint32](list []*Thread[uint32]) []*Thread[T] {
	if list == nil {
		return nil
	}
	out := make([]*Thread[T], len(list))
	for i, t := range list {
		n := &Thread[T]{Num: T(t.Num)}
		out[i] = n
		for len(t.Answers) == 1 {
			t = t.Answers[0]
			next := &Thread[T]{Num: T(t.Num)}
			n.Answers = []*Thread[T]{next}
			n = next
		}
		n.Answers = grow[T](t.Answers)
	}
	return out
}

// maxThreadDepth bounds how deep parentheses nest, which is where threads branch.
const maxThreadDepth = 10000

func takeThreads(d *wire.Decoder) any {
	r := new(threadList)
	if d.Accept(' ') {
		for d.OK() && d.Peek() == '(' {
			r.roots = append(r.roots, takeThread(d, 0))
		}
	}
	return r
}

// takeThread takes (1 2 (3)(4 5)): a chain of numbers, and branches at its end. It may begin
// with branches, whose common root is not there.
func takeThread(d *wire.Decoder, depth int) *Thread[uint32] {
	if depth > maxThreadDepth {
		d.Fail("threads nested too deep")
		return new(Thread[uint32])
	}
	d.Expect('(')
	var root, last *Thread[uint32]
	chain := func(n uint32) {
		t := &Thread[uint32]{Num: n}
		if last == nil {
			root = t
		} else {
			last.Answers = append(last.Answers, t)
		}
		last = t
	}
	for d.OK() && !d.Accept(')') {
		switch b := d.Peek(); {
		case b == ' ':
			d.Accept(' ')
		case b == '(':
			if last == nil {
				chain(0)
			}
			for d.OK() && d.Peek() == '(' {
				last.Answers = append(last.Answers, takeThread(d, depth+1))
			}
		default:
			chain(d.Number())
		}
	}
	if root == nil {
		d.Fail("an empty thread")
		return new(Thread[uint32])
	}
	return root
}

// String returns the thread as THREAD writes it.
func (t *Thread[T]) String() string {
	var b strings.Builder
	t.text(&b)
	return b.String()
}

func (t *Thread[T]) text(b *strings.Builder) {
	sep := "("
	for {
		if t.Num != 0 {
			fmt.Fprint(b, sep, uint32(t.Num))
			sep = " "
		}
		if len(t.Answers) != 1 {
			break
		}
		t = t.Answers[0]
	}
	if len(t.Answers) > 0 {
		b.WriteString(sep)
	}
	for _, a := range t.Answers {
		a.text(b)
	}
	b.WriteByte(')')
}
