package queue_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/queue"
)

const day = 24 * time.Hour

func TestBackoffNext(t *testing.T) {
	plain := queue.Backoff{Jitter: -1}
	short := queue.Backoff{Jitter: -1, Intervals: []time.Duration{time.Second, 3 * time.Second}, Life: 10 * time.Second}
	for _, c := range []struct {
		name     string
		policy   queue.Backoff
		attempts int
		outcome  queue.Outcome
		age      time.Duration
		want     time.Duration
		giveUp   bool
	}{
		{"first failure", plain, 1, queue.Outcome{}, 0, 5 * time.Minute, false},
		{"second", plain, 2, queue.Outcome{}, 5 * time.Minute, 10 * time.Minute, false},
		{"fifth", plain, 5, queue.Outcome{}, 2 * time.Hour, time.Hour, false},
		{"eighth", plain, 8, queue.Outcome{}, 9 * time.Hour, 4 * time.Hour, false},
		{"many", plain, 25, queue.Outcome{}, 4 * day, 4 * time.Hour, false},
		{"no attempt counted", plain, 0, queue.Outcome{}, 0, 5 * time.Minute, false},
		{"a longer hint is honoured", plain, 1, queue.Outcome{After: time.Hour}, 0, time.Hour, false},
		{"a shorter one is not", plain, 1, queue.Outcome{After: time.Second}, 0, 5 * time.Minute, false},
		{"one attempt at the end of life", plain, 30, queue.Outcome{}, 5*day - time.Hour, time.Hour, false},
		{"life is over", plain, 31, queue.Outcome{}, 5 * day, 0, true},
		{"life is long over", plain, 31, queue.Outcome{}, 9 * day, 0, true},
		{"route down", plain, 0, queue.Outcome{Result: queue.RouteDown}, time.Hour, 5 * time.Minute, false},
		{"route down to the end", plain, 0, queue.Outcome{Result: queue.RouteDown}, 5 * day, 0, true},
		{"deferred", plain, 3, queue.Outcome{Result: queue.Deferred}, time.Hour, time.Minute, false},
		{"deferred with a hint", plain, 3, queue.Outcome{Result: queue.Deferred, After: time.Second}, time.Hour, time.Second, false},
		{"deferred too long", plain, 3, queue.Outcome{Result: queue.Deferred}, 6 * day, 0, true},
		{"own intervals", short, 2, queue.Outcome{}, time.Second, 3 * time.Second, false},
		{"own last interval repeats", short, 3, queue.Outcome{}, 4 * time.Second, 3 * time.Second, false},
		{"own life", short, 5, queue.Outcome{}, 10 * time.Second, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, giveUp := c.policy.Next(&queue.Recipient{Attempts: c.attempts}, c.outcome, c.age)
			assert.Equal(t, c.giveUp, giveUp)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestBackoffJitter(t *testing.T) {
	b := queue.Backoff{Jitter: 0.2}
	r := &queue.Recipient{Address: "a@example.org", Attempts: 5}
	lowest, highest := time.Duration(1<<62), time.Duration(0)
	for age := range time.Duration(1000) {
		got, _ := b.Next(r, queue.Outcome{}, age)
		again, _ := b.Next(r, queue.Outcome{}, age)
		assert.Equal(t, got, again, "the policy is a function")
		lowest, highest = min(lowest, got), max(highest, got)
	}
	assert.GreaterOrEqual(t, lowest, 48*time.Minute)
	assert.LessOrEqual(t, highest, 72*time.Minute)
	assert.Less(t, lowest, 50*time.Minute, "the spread reaches its lower end")
	assert.Greater(t, highest, 70*time.Minute, "and its upper end")
}

func TestBackoffWarn(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy queue.Backoff
		warned bool
		age    time.Duration
		want   bool
	}{
		{"young", queue.Backoff{}, false, 4*time.Hour - 1, false},
		{"four hours", queue.Backoff{}, false, 4 * time.Hour, true},
		{"once is enough", queue.Backoff{}, true, 5 * time.Hour, false},
		{"never", queue.Backoff{WarnAfter: -1}, false, 4 * day, false},
		{"own time", queue.Backoff{WarnAfter: time.Minute}, false, time.Minute, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, c.policy.Warn(&queue.Recipient{Warned: c.warned}, c.age))
		})
	}
}

func TestBackoffAttention(t *testing.T) {
	b := queue.Backoff{}
	assert.Equal(t, 4*time.Hour, b.Attention(&queue.Recipient{}, 0))
	assert.Equal(t, 5*day, b.Attention(&queue.Recipient{Warned: true}, 0))
	assert.Equal(t, 5*day, b.Attention(&queue.Recipient{}, 4*time.Hour))
	assert.Zero(t, b.Attention(&queue.Recipient{}, 5*day))
}

func TestRouteByDomain(t *testing.T) {
	for address, want := range map[string]string{
		"a@Example.ORG": "example.org", "postmaster": "local", "a@": "local", `"a@b"@c.test`: "c.test", "a@[192.0.2.1]": "[192.0.2.1]",
	} {
		assert.Equal(t, want, queue.RouteByDomain(address), address)
	}
}

func TestNotify(t *testing.T) {
	for _, c := range []struct {
		n                       queue.Notify
		text                    string
		success, failure, delay bool
	}{
		{0, "", false, true, true},
		{queue.NotifyNever, "NEVER", false, false, false},
		{queue.NotifySuccess, "SUCCESS", true, false, false},
		{queue.NotifyFailure | queue.NotifyDelay, "FAILURE,DELAY", false, true, true},
		{queue.NotifySuccess | queue.NotifyFailure | queue.NotifyDelay, "SUCCESS,FAILURE,DELAY", true, true, true},
	} {
		assert.Equal(t, c.text, c.n.String())
		assert.Equal(t, c.success, c.n.Success(), c.text)
		assert.Equal(t, c.failure, c.n.Failure(), c.text)
		assert.Equal(t, c.delay, c.n.Delay(), c.text)
	}
}
