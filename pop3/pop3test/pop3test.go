// Package pop3test proves that a maildrop keeps the contract of pop3.Maildrop.
package pop3test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mailblocks/mailblocks/pop3"
)

// Storage is what a suite is run on: one user's mail.
type Storage struct {
	// Deliver adds a message, outside of any session.
	Deliver func(text string) error
	// Open opens the mail for a session, also while another one has it: who lets only one in
	// at a time does that above the Maildrop, or around it.
	Open func() (pop3.Maildrop, error)
}

// Test runs the suite. New makes an empty storage for one subtest, which cleans up with t.
func Test(t *testing.T, newStorage func(t *testing.T) Storage) {
	for name, test := range map[string]func(f *fixture){
		"Empty":         testEmpty,
		"Octets":        testOctets,
		"ListIsFixed":   testListIsFixed,
		"UIDsAreStable": testUIDs,
		"DeleteAtOnce":  testDelete,
		"CloseDeletes":  testCloseDeletesNothing,
		"TwoSessions":   testTwoSessions,
	} {
		t.Run(name, func(t *testing.T) {
			test(&fixture{T: t, Storage: newStorage(t), ctx: t.Context()})
		})
	}
}

type fixture struct {
	*testing.T
	Storage
	ctx context.Context
}

func (f *fixture) deliver(texts ...string) {
	f.Helper()
	for _, text := range texts {
		if err := f.Deliver(text); err != nil {
			f.Fatalf("deliver: %v", err)
		}
	}
}

func (f *fixture) open() pop3.Maildrop {
	f.Helper()
	d, err := f.Open()
	if err != nil {
		f.Fatalf("open: %v", err)
	}
	return d
}

func (f *fixture) close(d pop3.Maildrop) {
	f.Helper()
	if err := d.Close(); err != nil {
		f.Fatalf("Close: %v", err)
	}
}

func (f *fixture) read(d pop3.Maildrop, i int) string {
	f.Helper()
	r, err := d.Open(f.ctx, i)
	if err != nil {
		f.Fatalf("Open(%d): %v", i, err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		f.Fatalf("read message %d: %v", i, err)
	}
	return string(b)
}

func mail(n int) string { return fmt.Sprintf("Subject: message %d\r\n\r\nbody %d\r\n", n, n) }

func testEmpty(f *fixture) {
	d := f.open()
	defer f.close(d)
	if n := len(d.Messages()); n != 0 {
		f.Errorf("an empty maildrop lists %d messages", n)
	}
}

func testOctets(f *fixture) {
	texts := []string{mail(1), "Subject: x\r\n\r\n.\r\n..\r\n", "Subject: x\r\n\r\n\xff\x00\r\nno line end", "Subject: big\r\n\r\n" + strings.Repeat("a line of text\r\n", 20000)}
	f.deliver(texts...)
	d := f.open()
	defer f.close(d)
	if len(d.Messages()) != len(texts) {
		f.Fatalf("%d messages listed, want %d", len(d.Messages()), len(texts))
	}
	for range 2 { // a message may be opened again
		for i, want := range texts {
			got := f.read(d, i)
			if got != want {
				f.Errorf("message %d: octets differ: %d, want %d", i, len(got), len(want))
			}
			if size := d.Messages()[i].Size; size != int64(len(want)) {
				f.Errorf("message %d: Size %d, want %d", i, size, len(want))
			}
		}
	}
}

func testListIsFixed(f *fixture) {
	f.deliver(mail(1), mail(2))
	d := f.open()
	defer f.close(d)
	before := slices.Clone(d.Messages())
	f.deliver(mail(3))
	if !slices.Equal(before, d.Messages()) {
		f.Error("the list changed under a session when mail came in")
	}
	if got := f.read(d, 1); got != mail(2) {
		f.Errorf("message 1 is another one now: %q", got)
	}
}

func testUIDs(f *fixture) {
	f.deliver(mail(1), mail(2), mail(3))
	d := f.open()
	before := slices.Clone(d.Messages())
	seen := make(map[string]bool)
	for _, m := range before {
		if l := len(m.UID); l < 1 || l > 70 || strings.ContainsFunc(m.UID, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
			f.Errorf("UID %q is not 1 to 70 characters from ! to ~", m.UID)
		}
		if seen[m.UID] {
			f.Errorf("UID %q stands for two messages", m.UID)
		}
		seen[m.UID] = true
	}
	if err := d.Delete(f.ctx, []int{2}); err != nil {
		f.Fatalf("Delete: %v", err)
	}
	f.close(d)
	f.deliver(mail(4))
	d = f.open()
	defer f.close(d)
	after := d.Messages()
	if len(after) != 3 || after[0] != before[0] || after[1] != before[1] {
		f.Fatalf("messages are called otherwise in the next session: %v, then %v", before, after)
	}
	if seen[after[2].UID] {
		f.Errorf("the UID %q of a deleted message was given to a new one", after[2].UID)
	}
}

func testDelete(f *fixture) {
	f.deliver(mail(1), mail(2), mail(3), mail(4))
	d := f.open()
	if err := d.Delete(f.ctx, []int{1, 3}); err != nil {
		f.Fatalf("Delete: %v", err)
	}
	f.close(d)
	d = f.open()
	defer f.close(d)
	var left []string
	for i := range d.Messages() {
		left = append(left, f.read(d, i))
	}
	if !slices.Equal(left, []string{mail(1), mail(3)}) {
		f.Errorf("left after deleting the second and fourth: %q", left)
	}
}

func testCloseDeletesNothing(f *fixture) {
	f.deliver(mail(1))
	for range 2 {
		d := f.open()
		if n := len(d.Messages()); n != 1 {
			f.Errorf("%d messages, want 1", n)
		}
		f.read(d, 0)
		f.close(d)
	}
}

func testTwoSessions(f *fixture) {
	f.deliver(mail(1), mail(2), mail(3))
	a, b := f.open(), f.open()
	defer f.close(b)
	if !slices.Equal(a.Messages(), b.Messages()) {
		f.Errorf("two sessions see other messages: %v, %v", a.Messages(), b.Messages())
	}
	if err := a.Delete(f.ctx, []int{0}); err != nil {
		f.Fatalf("Delete: %v", err)
	}
	f.close(a)
	if len(b.Messages()) != 3 {
		f.Error("the list changed when another session deleted a message")
	}
	if r, err := b.Open(f.ctx, 0); err == nil {
		// It may still be readable, but never be another message.
		got, err := io.ReadAll(r)
		r.Close()
		if err == nil && string(got) != mail(1) {
			f.Errorf("in place of a deleted message there is %q", got)
		}
	}
	if got := f.read(b, 1); got != mail(2) {
		f.Errorf("message 1 is another one now: %q", got)
	}
	// Deleting what has gone already is no failure of the rest.
	if err := b.Delete(f.ctx, []int{0, 1}); err != nil {
		f.Errorf("Delete of a message that has gone, and one that has not: %v", err)
	}
	c := f.open()
	defer f.close(c)
	if len(c.Messages()) != 1 || f.read(c, 0) != mail(3) {
		f.Error("two sessions deleted two of three messages, and not one is left")
	}
}
