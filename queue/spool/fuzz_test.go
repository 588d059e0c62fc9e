package spool

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/envcodec"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// segmentImage is a log as a store leaves it, and the bodies of what is queued in it.
func segmentImage(t testing.TB) (log []byte, bodies map[queue.ID]string) {
	disk := newCrashFS()
	s, err := open(disk, crashOptions)
	require.NoError(t, err)
	bodies = map[queue.ID]string{}
	for i := range 8 {
		text := strings.Repeat(fmt.Sprint("body ", i), 20)
		ids, err := s.Enqueue(t.Context(), queue.Message{
			Envelope: queue.Envelope{
				ReversePath: "a@example.org",
				Recipients:  []queue.Recipient{{Address: fmt.Sprintf("u@d%d.test", i%2)}, {Address: "v@other.test"}},
			},
			Body: strings.NewReader(text),
		})
		require.NoError(t, err)
		bodies[ids[0]] = text
	}
	leases, err := s.Lease(t.Context(), queue.Want{Max: 3, For: time.Hour})
	require.NoError(t, err)
	for _, l := range leases {
		r := l.Envelope.Recipients[l.Due[0]]
		r.Attempts, r.Due = 1, time.Unix(4e9, 0)
		_, err := s.Settle(t.Context(), l.Token, queue.Settlement{Recipients: map[int]queue.Recipient{l.Due[0]: r}})
		require.NoError(t, err)
	}
	log = slices.Clone(disk.now[segmentName(1)].data)
	require.NoError(t, s.Close())
	return log, bodies
}

// FuzzRecover changes a log anywhere: Open must get through it, and what it brings back must be what was
// stored.
func FuzzRecover(f *testing.F) {
	image, bodies := segmentImage(f)
	f.Add(uint32(0), []byte("x"), uint32(len(image)))
	f.Add(uint32(segmentHeader), []byte{0, 0, 0, 0}, uint32(len(image)))
	f.Add(uint32(segmentHeader+8), []byte{255, 255, 255, 255}, uint32(len(image)))
	f.Add(uint32(500), []byte("damage"), uint32(700))
	f.Fuzz(func(t *testing.T, at uint32, change []byte, size uint32) {
		log := slices.Clone(image)
		log = log[:min(int(size), len(log))]
		if int(at) < len(log) {
			copy(log[at:], change)
		}
		disk := newCrashFS()
		disk.now[segmentName(1)] = &inode{name: segmentName(1), data: log}
		for range 2 { // what the first recovery leaves must not trouble the second
			s, err := open(disk, crashOptions)
			require.NoError(t, err)
			for e, err := range s.List(t.Context(), queue.Filter{}) {
				if err != nil {
					continue
				}
				r, err := s.Open(t.Context(), e.ID)
				if err != nil {
					continue
				}
				text, err := io.ReadAll(r)
				require.NoError(t, err)
				require.Equal(t, bodies[e.ID], string(text))
			}
			require.NoError(t, s.Close())
		}
	})
}

// FuzzMeta reads anything as a record's meta: no panic, and what is read is written and read the same.
func FuzzMeta(f *testing.F) {
	env, err := sched.Prepare(&queue.Envelope{ReversePath: "a@b.test", Recipients: []queue.Recipient{{Address: "c@d.test"}}}, time.Unix(1e9, 0))
	require.NoError(f, err)
	f.Add(appendMessageMeta(nil, 7, true, sched.Parts(env), env))
	f.Add(appendStateMeta(nil, "d.test", sched.Result{Due: time.Unix(1e9, 0)}, env))
	f.Add(appendFlagsMeta(nil, "d.test", true, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMessageMeta(b); err == nil {
			if e, err := envcodec.Decode(m.envelope); err == nil {
				again := appendMessageMeta(nil, m.size, m.fromFile, m.parts, e)
				m2, err := parseMessageMeta(again)
				require.NoError(t, err)
				require.Equal(t, m.parts, m2.parts)
				e2, err := envcodec.Decode(m2.envelope)
				require.NoError(t, err)
				require.Equal(t, e, e2)
			}
		}
		e := sched.Clone(env)
		_ = applyState(b, e)
		_, _, _ = parseFlagsMeta(b)
	})
}

func TestEnvelopeCodec(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		e := &queue.Envelope{
			ReversePath: strings.Repeat("é", rnd.IntN(5)), EnvID: "id", Tag: "t", UTF8: rnd.IntN(2) == 0, RequireTLS: rnd.IntN(2) == 0,
			Priority: int8(rnd.IntN(19) - 9), HoldUntil: time.Unix(1+rnd.Int64N(9e9), 5), Arrived: time.Unix(1, 1),
		}
		if rnd.IntN(2) == 0 {
			e.DeliverBy = queue.DeliverBy{Time: time.Unix(5, 5), Return: rnd.IntN(2) == 0, Trace: rnd.IntN(2) == 0}
		}
		for range 1 + rnd.IntN(4) {
			e.Recipients = append(e.Recipients, queue.Recipient{
				Address: "u@example.org", Notify: queue.Notify(rnd.IntN(16)), Attempts: rnd.IntN(99), Due: time.Unix(7, 7), Warned: true,
				Last: queue.Outcome{Result: queue.RouteDown, Code: 421, Enhanced: "4.4.2", Text: "bye", RemoteMTA: "mx", After: time.Hour},
			})
		}
		b := envcodec.Append(nil, e)
		got, err := envcodec.Decode(b)
		require.NoError(t, err)
		require.Equal(t, e, got)
		for n := range b {
			_, err := envcodec.Decode(b[:n])
			require.Error(t, err, "cut at %d", n)
		}
	}
}
