package spam_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
)

type checkFunc struct {
	name  string
	stage spam.Stage
	f     func(ctx context.Context) (spam.Verdict, error)
}

func (c checkFunc) Name() string      { return c.name }
func (c checkFunc) Stage() spam.Stage { return c.stage }
func (c checkFunc) Check(ctx context.Context, _ *spam.Envelope, _ *spam.Message) (spam.Verdict, error) {
	return c.f(ctx)
}

func says(name string, v spam.Verdict, err error) spam.Check {
	return checkFunc{name, spam.Mail, func(context.Context) (spam.Verdict, error) { return v, err }}
}

func stalls(name string) spam.Check {
	return checkFunc{name, spam.Mail, func(ctx context.Context) (spam.Verdict, error) {
		<-ctx.Done()
		return spam.Verdict{}, ctx.Err()
	}}
}

func TestChain(t *testing.T) {
	boom := errors.New("boom")
	ham := spam.Verdict{Score: -2, Reasons: []spam.Reason{{Name: "known", Score: -2}}}
	bad := spam.Verdict{Score: 3, Action: spam.Junk, Reasons: []spam.Reason{{Name: "pills", Score: 3}}}
	refuse := spam.Verdict{Score: 1, Action: spam.Reject, Reply: "no"}
	panics := checkFunc{"p", spam.Mail, func(context.Context) (spam.Verdict, error) { panic("oops") }}
	other := checkFunc{"later", spam.Data, func(context.Context) (spam.Verdict, error) { return refuse, nil }}
	for name, c := range map[string]struct {
		checks   []spam.Check
		policy   spam.Policy
		score    float64
		action   spam.Action
		unsure   bool
		failures int
	}{
		"none":               {unsure: true},
		"another stage":      {checks: []spam.Check{other}, unsure: true},
		"sum":                {checks: []spam.Check{says("a", bad, nil), says("b", ham, nil)}, score: 1, action: spam.Junk},
		"ham":                {checks: []spam.Check{says("b", ham, nil)}, score: -2},
		"above reject":       {checks: []spam.Check{says("a", bad, nil)}, policy: spam.Policy{RejectAt: 2.5}, score: 3, action: spam.Reject},
		"fails open":         {checks: []spam.Check{says("a", bad, nil), says("b", refuse, boom)}, score: 3, action: spam.Junk, failures: 1},
		"fails, defer":       {checks: []spam.Check{says("b", ham, boom)}, policy: spam.Policy{OnFailure: map[string]spam.OnFailure{"b": spam.FailDefer}}, action: spam.Defer, failures: 1},
		"fails closed":       {checks: []spam.Check{says("b", ham, boom)}, policy: spam.Policy{OnFailure: map[string]spam.OnFailure{"b": spam.FailClosed}}, action: spam.Reject, failures: 1},
		"panics":             {checks: []spam.Check{panics, says("b", ham, nil)}, score: -2, failures: 1},
		"stalls":             {checks: []spam.Check{stalls("s"), says("b", ham, nil)}, score: -2, failures: 1},
		"stalls, defer":      {checks: []spam.Check{stalls("s")}, policy: spam.Policy{OnFailure: map[string]spam.OnFailure{"s": spam.FailDefer}}, action: spam.Defer, failures: 1},
		"decided, not late":  {checks: []spam.Check{stalls("s"), says("b", refuse, nil)}, score: 1, action: spam.Reject},
		"all fail: not lost": {checks: []spam.Check{says("a", bad, boom), says("b", bad, boom)}, unsure: true, failures: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				chain := &spam.Chain{Checks: c.checks, Policy: c.policy, Timeout: time.Minute}
				v, failures := chain.Run(t.Context(), spam.Mail, &spam.Envelope{}, nil)
				assert.InDelta(t, c.score, v.Score, 1e-9)
				assert.Equal(t, c.action, v.Action)
				assert.Equal(t, c.unsure, v.Unsure)
				assert.Len(t, failures, c.failures)
			})
		})
	}
}

func TestStatisticsInAChain(t *testing.T) {
	c := newClassifier(t, spam.NewMemory())
	for i := range 60 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	chain := &spam.Chain{Checks: []spam.Check{c.Statistics(nil)}}
	v, failures := chain.Run(t.Context(), spam.Data, &spam.Envelope{}, spamOf(t, 80))
	require.Empty(t, failures)
	assert.Equal(t, spam.Junk, v.Action)
}
