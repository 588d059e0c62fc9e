package smtp_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

// outcomes collects what SendAll tells.
type outcomes []string

func (o *outcomes) done(r *smtp.Result, err error) {
	line := fmt.Sprintf("%v", err)
	if err == nil {
		line = ""
	}
	for _, reply := range r.Recipients {
		if reply == nil {
			line += " -"
		} else {
			line += fmt.Sprintf(" %d %s", reply.Code, reply.Text)
		}
	}
	*o = append(*o, strings.TrimSpace(line))
}

func message(body string, rcpts ...string) smtp.Message {
	return smtp.Message{Envelope: &smtp.Envelope{From: "a@example.org", To: to(rcpts...)}, Body: strings.NewReader(body)}
}

// The envelope of the second message is there before the first is answered.
func TestSendAllIsPipelined(t *testing.T) {
	c := dialTest(t, smtptest.Script(t, nil, `
S: 220 hi
C: EHLO client.test
S! 250-x\r\n250 PIPELINING\r\n
C: MAIL FROM:<a@example.org>
C: RCPT TO:<one@b.test>
C: DATA
S! 250 ok\r\n250 ok\r\n354 go\r\n
C>
C: MAIL FROM:<a@example.org>
C: RCPT TO:<two@b.test>
C: RCPT TO:<not@b.test>
C: DATA
S! 250 first\r\n250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n
C>
C: MAIL FROM:<a@example.org>
C: RCPT TO:<not@b.test>
C: DATA
S! 450 second\r\n250 ok\r\n550 no\r\n554 nobody\r\n
C: RSET
S: 250 ok
C: MAIL FROM:<a@example.org>
C: RCPT TO:<three@b.test>
C: DATA
S! 250 ok\r\n250 ok\r\n354 go\r\n
C>
S: 250 third
C.
`), nil)
	var got outcomes
	require.NoError(t, c.SendAll(t.Context(), slices.Values([]smtp.Message{
		message("x\r\n", "one@b.test"), message("x\r\n", "two@b.test", "not@b.test"), message("x\r\n", "not@b.test"), message("x\r\n", "three@b.test"),
	}), got.done))
	assert.Equal(t, outcomes{"250 first", "450 second 550 no", "550 no", "250 third"}, got)
}

// With BDAT a message goes as a whole.
func TestSendAllChunked(t *testing.T) {
	c := dialTest(t, smtptest.Script(t, nil, `
S: 220 hi
C: EHLO client.test
S! 250-x\r\n250-CHUNKING\r\n250 PIPELINING\r\n
C: MAIL FROM:<a@example.org>
C: RCPT TO:<one@b.test>
C: BDAT 3 LAST
C: x
S! 250 ok\r\n250 ok\r\n
C: MAIL FROM:<a@example.org>
C: RCPT TO:<two@b.test>
C: BDAT 3 LAST
C: y
S! 250 first\r\n250 ok\r\n250 ok\r\n554 spam\r\n
C.
`), &smtp.ClientOptions{Chunking: true})
	var got outcomes
	require.NoError(t, c.SendAll(t.Context(), slices.Values([]smtp.Message{message("x\r\n", "one@b.test"), message("y\r\n", "two@b.test")}), got.done))
	assert.Equal(t, outcomes{"250 first", "554 spam"}, got)
}

func TestSendAllEveryWay(t *testing.T) {
	for name, opt := range ways {
		t.Run(name, func(t *testing.T) {
			s := smtptest.NewServer(t)
			c := dialTest(t, s.Addr, &opt)
			big := strings.Repeat(strings.Repeat("y", 70)+"\r\n.\r\n", 5000)
			var got outcomes
			var all []smtp.Message
			for i := range 20 {
				body := "x\r\n"
				if i%4 == 3 {
					body = big
				}
				all = append(all, message(body, fmt.Sprintf("r%d@b.test", i)))
			}
			// What can not be sent is told in its turn, and the others go on.
			all = slices.Insert(all, 7, message("x", "no address"), smtp.Message{Envelope: &smtp.Envelope{
				Params: smtp.MailParams{Size: 1 << 40}, To: to("b@b.test")}})
			require.NoError(t, c.SendAll(t.Context(), slices.Values(all), got.done))
			require.Len(t, got, 22)
			assert.Contains(t, got[7], "no address")
			assert.Contains(t, got[8], "552 ")
			for i, m := range s.Messages() {
				assert.Equal(t, fmt.Sprintf("r%d@b.test", i), m.To[0].Address)
				assert.Equal(t, i%4 == 3, string(m.Data) == big)
			}
			assert.Len(t, s.Messages(), 20)
			require.NoError(t, c.Noop(t.Context()))
		})
	}
}

// Where the connection breaks, each message on its way is told so, and no further one is asked for.
func TestSendAllBroken(t *testing.T) {
	ehlo := "S: 220 hi\nC: EHLO client.test\nS! 250-x\\r\\n250 PIPELINING\\r\\n\n"
	first := "C~ MAIL.*\nC~ RCPT.*\nC: DATA\nS! 250 ok\\r\\n250 ok\\r\\n354 go\\r\\nC>\n"
	first = strings.ReplaceAll(first, "\\nC>", "\\n\nC>")
	for name, text := range map[string]string{
		"gone before the reply": ehlo + first + "C~ MAIL.*\nC~ RCPT.*\nC: DATA\nS.",
		"421":                   ehlo + first + "C~ MAIL.*\nC~ RCPT.*\nC: DATA\nS: 421 bye\nS.",
		"nonsense":              ehlo + first + "C~ MAIL.*\nC~ RCPT.*\nC: DATA\nS: 354 what\nS.",
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTest(t, smtptest.Script(t, nil, text), nil)
			var got outcomes
			asked := 0
			err := c.SendAll(t.Context(), func(yield func(smtp.Message) bool) {
				for asked = 1; yield(message("x\r\n", "b@b.test")); asked++ {
				}
			}, got.done)
			var conn *smtp.ConnError
			require.ErrorAs(t, err, &conn)
			assert.Equal(t, 2, asked)
			require.Len(t, got, 2)
			for _, line := range got {
				assert.Equal(t, err.Error()+" -", line)
			}
			assert.ErrorIs(t, c.Noop(t.Context()), smtp.ErrClientClosed)
		})
	}
	t.Run("body", func(t *testing.T) {
		c := dialTest(t, smtptest.NewServer(t).Addr, nil)
		var got outcomes
		trouble := errors.New("disk on fire")
		bad := message("", "b@b.test")
		bad.Body = iotest.ErrReader(trouble)
		err := c.SendAll(t.Context(), slices.Values([]smtp.Message{message("x\r\n", "b@b.test"), bad, message("x\r\n", "b@b.test")}), got.done)
		require.ErrorIs(t, err, trouble)
		require.Len(t, got, 2)
		assert.Contains(t, got[0], "250 ")
		assert.Contains(t, got[1], "disk on fire")
	})
}

// MAILMAX (RFC 9422) holds for SendAll, too: the last message is answered, the next one never sent.
func TestSendAllMailMax(t *testing.T) {
	s := smtptest.NewServer(t, func(s *smtp.Server) { s.MaxMessages, s.MaxRecipients = 2, 1 })
	c := dialTest(t, s.Addr, nil)
	var got outcomes
	err := c.SendAll(t.Context(), slices.Values([]smtp.Message{message("x", "a@b.test", "b@b.test"), message("x", "a@b.test"), message("x", "a@b.test")}), got.done)
	require.ErrorIs(t, err, smtp.ErrMailMax)
	require.Len(t, got, 3)
	assert.Equal(t, "250 message accepted 452 more recipients than the server announces to take, 1", got[0])
	assert.Equal(t, "250 message accepted", got[1])
	assert.Len(t, s.Messages(), 2)
}

// RCPTDOMAINMAX cuts the recipients off where one domain too many comes.
func TestDomainMax(t *testing.T) {
	s := smtptest.NewServer(t, func(s *smtp.Server) {
		s.Extensions, s.Keywords = smtp.DefaultExtensions&^smtp.ExtLimits, []string{"LIMITS RCPTDOMAINMAX=2"}
	})
	c := dialTest(t, s.Addr, nil)
	var got outcomes
	require.NoError(t, c.SendAll(t.Context(), slices.Values([]smtp.Message{
		message("x", "a@b.test", "a@c.test", "b@B.test", "a@d.test", "c@b.test"), message("x", "a@b.test", "a@c.test"),
	}), got.done))
	const ok, over = "250 message accepted", "452 recipients in more domains than the server announces to take"
	assert.Equal(t, outcomes{strings.Join([]string{ok, ok, ok, over, over}, " "), ok + " " + ok}, got)
}

func TestXClient(t *testing.T) {
	c := dialTest(t, start(t, newServer(t, "xclient", &testHandler{})), nil)
	require.NoError(t, c.XClient(t.Context(), map[string]string{"ADDR": "192.0.2.7", "PORT": "", "LOGIN": "al ice", "HELO": "c.test"}))
	r, err := c.Command(t.Context(), "XWHO")
	require.NoError(t, err)
	assert.Equal(t, `192.0.2.7:0 127.0.0.1 "client.test" "al ice" true`, r.Text)
	var x *smtp.ExtensionError
	require.ErrorAs(t, c.XClient(t.Context(), map[string]string{"SHOE": "44"}), &x)
	var refused *smtp.Reply
	require.ErrorAs(t, c.XClient(t.Context(), map[string]string{"PORT": "x"}), &refused)
	require.NoError(t, c.Noop(t.Context()))

	c = dialTest(t, smtptest.NewServer(t).Addr, nil)
	require.ErrorAs(t, c.XClient(t.Context(), map[string]string{"ADDR": "192.0.2.7"}), &x)
	require.ErrorAs(t, c.XClient(t.Context(), nil), &x)
}
