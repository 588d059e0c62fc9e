package lazyctx_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/lazyctx"
)

type key struct{}

func TestEnd(t *testing.T) {
	parent := context.WithValue(t.Context(), key{}, "v")
	for name, use := range map[string]func(c *lazyctx.Context){
		"nobody asked": func(*lazyctx.Context) {},
		"asked":        func(c *lazyctx.Context) { c.Done() },
	} {
		t.Run(name, func(t *testing.T) {
			c := &lazyctx.Context{Parent: parent}
			use(c)
			require.NoError(t, c.Err())
			assert.Equal(t, "v", c.Value(key{}))
			_, ok := c.Deadline()
			assert.False(t, ok)
			derived, cancel := context.WithCancel(c)
			defer cancel()
			c.End()
			<-c.Done()
			<-derived.Done()
			assert.ErrorIs(t, c.Err(), context.Canceled)
			assert.ErrorIs(t, derived.Err(), context.Canceled)
		})
	}
	c := &lazyctx.Context{Parent: parent}
	c.End()
	assert.ErrorIs(t, c.Err(), context.Canceled)
	<-c.Done()
}

func TestParentEnds(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	asked, silent := &lazyctx.Context{Parent: parent}, &lazyctx.Context{Parent: parent}
	done := asked.Done()
	cancel()
	<-done
	assert.ErrorIs(t, asked.Err(), context.Canceled)
	assert.ErrorIs(t, silent.Err(), context.Canceled)
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		asked, silent := &lazyctx.Context{Parent: t.Context(), At: start.Add(time.Minute)}, &lazyctx.Context{Parent: t.Context(), At: start.Add(time.Minute)}
		at, ok := silent.Deadline()
		assert.True(t, ok)
		assert.Equal(t, start.Add(time.Minute), at)
		<-asked.Done()
		assert.Equal(t, time.Minute, time.Since(start))
		assert.ErrorIs(t, asked.Err(), context.DeadlineExceeded)
		assert.ErrorIs(t, silent.Err(), context.DeadlineExceeded)

		parent, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		at, _ = (&lazyctx.Context{Parent: parent, At: start.Add(time.Hour)}).Deadline()
		want, _ := parent.Deadline()
		assert.Equal(t, want, at, "the sooner of the two")
	})
}
