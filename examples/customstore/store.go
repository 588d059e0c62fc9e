package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"io"

	"github.com/mailblocks/mailblocks/imap"
)

// sealed is a Store whose messages are encrypted before the Store below sees them: 16 random
// octets, then the message under AES in counter mode with these as its start. Counter mode can
// begin anywhere, which io.ReaderAt asks for. It hides mail from who reads the disk; it does
// not notice who changes it.
//
// It changes three things of a mailbox (what goes in, what comes out, how long it is) and
// leaves all else to the one below. It has no Unwrap: quotas below would count sealed octets.
type sealed struct {
	imap.Store
	key cipher.Block
}

func seal(below imap.Store, key []byte) (imap.Store, error) {
	block, err := aes.NewCipher(key)
	return sealed{below, block}, err
}

func (s sealed) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	mb, err := s.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return sealedMailbox{mb, s.key}, nil
}

type sealedMailbox struct {
	imap.Mailbox
	key cipher.Block
}

// Unwrap lets servers find the optional abilities of the mailbox below: \Recent.
func (m sealedMailbox) Unwrap() imap.Mailbox { return m.Mailbox }

func (m sealedMailbox) Append(ctx context.Context, msgs []imap.NewMessage) (imap.AppendResult, error) {
	inner := make([]imap.NewMessage, len(msgs))
	for i, msg := range msgs {
		var start [aes.BlockSize]byte
		_, _ = rand.Read(start[:]) // never fails
		body := cipher.StreamReader{S: cipher.NewCTR(m.key, start[:]), R: msg.Body}
		msg.Body = io.MultiReader(bytes.NewReader(start[:]), body)
		if msg.Size > 0 {
			msg.Size += aes.BlockSize
		}
		inner[i] = msg
	}
	return m.Mailbox.Append(ctx, inner)
}

func (m sealedMailbox) State(ctx context.Context) (imap.State, error) {
	st, err := m.Mailbox.State(ctx)
	return plain(st), err
}

// plain is a state with the sizes of what was sealed.
func plain(st imap.State) imap.State {
	st.Size -= aes.BlockSize * int64(st.Messages)
	return st
}

func (m sealedMailbox) Changes(ctx context.Context, since imap.ModSeq) (imap.Delta, error) {
	d, err := m.Mailbox.Changes(ctx, since)
	below := d.Messages
	d.State = plain(d.State)
	d.Messages = func(yield func(imap.Message, error) bool) {
		for msg, err := range below {
			msg.Size -= aes.BlockSize
			if !yield(msg, err) {
				return
			}
		}
	}
	return d, err
}

func (m sealedMailbox) Body(ctx context.Context, uid imap.UID) (imap.Body, error) {
	below, err := m.Mailbox.Body(ctx, uid)
	if err != nil {
		return nil, err
	}
	b := sealedBody{Body: below, key: m.key}
	if _, err := below.ReadAt(b.start[:], 0); err != nil {
		below.Close()
		return nil, err
	}
	return b, nil
}

type sealedBody struct {
	imap.Body
	key   cipher.Block
	start [aes.BlockSize]byte
}

func (b sealedBody) Size() int64 { return b.Body.Size() - aes.BlockSize }

func (b sealedBody) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Body.ReadAt(p, off+aes.BlockSize)
	// The counter, a number of 128 bits, at the block that off is in.
	counter := b.start
	low := binary.BigEndian.Uint64(counter[8:])
	sum := low + uint64(off/aes.BlockSize)
	binary.BigEndian.PutUint64(counter[8:], sum)
	if sum < low {
		binary.BigEndian.PutUint64(counter[:8], binary.BigEndian.Uint64(counter[:8])+1)
	}
	stream := cipher.NewCTR(b.key, counter[:])
	var skip [aes.BlockSize]byte
	stream.XORKeyStream(skip[:off%aes.BlockSize], skip[:off%aes.BlockSize])
	stream.XORKeyStream(p[:n], p[:n])
	return n, err
}
