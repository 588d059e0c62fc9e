package storetest_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/imap/storetest"
)

// broken is a mailbox of a good store with one promise broken.
type broken struct {
	imap.Mailbox
	how string
}

func (b broken) Unwrap() imap.Mailbox { return b.Mailbox }

type brokenStore struct {
	imap.Store
	how string
}

// Unwrap lets the suite find upgrades, one of which may be what is broken.
func (s brokenStore) Unwrap() imap.Store { return s.Store }

func (s brokenStore) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	mb, err := s.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return broken{mb, s.how}, nil
}

func (s brokenStore) Delete(ctx context.Context, name string) error {
	if s.how == "subscription" {
		if err := s.Store.Subscribe(ctx, name, false); err != nil {
			return err
		}
	}
	return s.Store.Delete(ctx, name)
}

func (b broken) State(ctx context.Context) (imap.State, error) {
	st, err := b.Mailbox.State(ctx)
	if b.how == "uidnext" && st.Messages == 0 {
		st.UIDNext = 1
	}
	return st, err
}

func (b broken) Changes(ctx context.Context, since imap.ModSeq) (imap.Delta, error) {
	d, err := b.Mailbox.Changes(ctx, since)
	switch b.how {
	case "gone":
		d.Gone = nil
	case "counts":
		d.State.Unseen = 0
	}
	return d, err
}

func (b broken) Append(ctx context.Context, msgs []imap.NewMessage) (done imap.AppendResult, err error) {
	if b.how != "atomic" {
		return b.Mailbox.Append(ctx, msgs)
	}
	for _, m := range msgs {
		one, err := b.Mailbox.Append(ctx, []imap.NewMessage{m})
		if err != nil {
			return imap.AppendResult{}, err
		}
		done.UIDValidity, done.UIDs = one.UIDValidity, append(done.UIDs, one.UIDs...)
	}
	return done, nil
}

func (b broken) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, unchangedSince imap.ModSeq) (imap.UIDSet, error) {
	if b.how == "conflict" {
		unchangedSince = 0
	}
	return b.Mailbox.SetFlags(ctx, set, op, unchangedSince)
}

func (b broken) Expunge(ctx context.Context, set imap.UIDSet, onlyDeleted bool) error {
	return b.Mailbox.Expunge(ctx, set, onlyDeleted && b.how != "deleted")
}

func (b broken) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (imap.Copied, error) {
	done, err := b.Mailbox.Copy(ctx, set, dst, move)
	if b.how == "pairs" {
		slices.Reverse(done.From)
	}
	return done, err
}

type longBody struct{ imap.Body }

func (b longBody) ReadAt(p []byte, off int64) (int, error) {
	n, err := b.Body.ReadAt(p, off)
	for i := range p[:n] {
		if p[i] == 0 {
			p[i] = ' '
		}
	}
	return n, err
}

func (b broken) Body(ctx context.Context, uid imap.UID) (imap.Body, error) {
	body, err := b.Mailbox.Body(ctx, uid)
	if b.how == "octets" && err == nil {
		return longBody{body}, nil
	}
	return body, err
}

var _ io.ReaderAt = longBody{}

// rules are the ways to break a store, and what the suite must say of each.
var rules = map[string]string{
	"":             "",
	"subscription": "a subscription survives the mailbox's deletion",
	"uidnext":      "UIDNext survives the expunge of all messages",
	"gone":         "Gone holds what was expunged after since",
	"counts":       `State.Unseen counts messages without \Seen`,
	"atomic":       "Append stores all messages or none",
	"conflict":     "SetFlags returns as conflict",
	"deleted":      "Expunge with onlyDeleted removes",
	"pairs":        "Copied.From[i] became Copied.To[i]",
	"octets":       "Body gives exactly the octets appended",
}

// TestSuiteOnBrokenStore is run by TestSuiteFindsWhatIsBroken, in a process of its own.
func TestSuiteOnBrokenStore(t *testing.T) {
	how, asked := os.LookupEnv("STORETEST_BROKEN")
	if !asked {
		t.Skip("run by TestSuiteFindsWhatIsBroken")
	}
	storetest.Test(t, func(testing.TB) storetest.Open {
		storage := memstore.New()
		return func() (imap.Store, error) {
			store := storage.Open()
			return brokenStore{brokenUpgrades{store.(below), how}, how}, nil
		}
	})
}

func TestSuiteFindsWhatIsBroken(t *testing.T) {
	for how, rule := range rules {
		t.Run(how, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSuiteOnBrokenStore$")
			cmd.Env = append(os.Environ(), "STORETEST_BROKEN="+how)
			out, err := cmd.CombinedOutput()
			if rule == "" {
				assert.NoError(t, err, "%s", out)
				return
			}
			assert.Error(t, err, "the suite lets it pass")
			if !strings.Contains(string(out), "rule broken: "+rule) {
				assert.Fail(t, "the suite does not name the rule", "want %q in\n%s", rule, out)
			}
		})
	}
}
