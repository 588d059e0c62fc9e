package pop3

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/internal/dotio"
)

// dispatch runs a command. It is not known when its verb is none, or not in this state.
func (s *session) dispatch(ctx context.Context, verb, args string) (r reply, known bool) {
	switch verb {
	case "CAPA":
		return s.capa(), true
	case "QUIT":
		return s.cmdQuit(ctx), true
	case "LANG":
		return s.cmdLang(args), true
	}
	if s.drop == nil {
		switch verb {
		case "APOP":
			return s.cmdAPOP(ctx, args), true
		case "UTF8":
			s.utf8 = true
			return okf("UTF-8 mode"), true
		case "USER":
			return s.cmdUser(args), true
		case "PASS":
			return s.cmdPass(ctx, args), true
		case "AUTH":
			return s.cmdAuth(ctx, args), true
		case "STLS":
			return s.cmdStls(ctx), true
		case "STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "TOP", "UIDL":
			return errText("log in first"), false
		}
		return errText("unknown command"), false
	}
	s.user = ""
	switch verb {
	case "STAT":
		n, size := s.count()
		return okf("%d %d", n, size), true
	case "LIST":
		return s.scan(args, "scan listing follows", func(i int) string { return strconv.FormatInt(s.messages[i].Size, 10) }), true
	case "UIDL":
		return s.scan(args, "unique-id listing follows", func(i int) string { return s.messages[i].UID }), true
	case "RETR":
		return s.cmdRetr(ctx, args), true
	case "TOP":
		return s.cmdTop(ctx, args), true
	case "DELE":
		i, bad := s.number(args)
		if bad != "" {
			return errText(bad), true
		}
		s.deleted[i] = true
		return okf("message %d deleted", i+1), true
	case "NOOP":
		return okf(""), true
	case "RSET":
		clear(s.deleted)
		n, size := s.count()
		return okf("%d messages (%d octets)", n, size), true
	case "USER", "PASS", "AUTH", "STLS", "APOP", "UTF8":
		return errText("already logged in"), false
	}
	return errText("unknown command"), false
}

// capa lists what can be done now (RFC 2449, 5).
func (s *session) capa() reply {
	lines := []string{"TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "LANG"}
	if e := s.server.Expire; e == nil || *e < 0 {
		lines = append(lines, "EXPIRE NEVER")
	} else {
		lines = append(lines, "EXPIRE "+strconv.Itoa(int(*e/(24*time.Hour))))
	}
	if d := s.server.LoginDelay; d > 0 {
		lines = append(lines, "LOGIN-DELAY "+strconv.Itoa(int((d+time.Second-1)/time.Second)))
	}
	if s.server.TLSConfig != nil && s.tls == nil {
		lines = append(lines, "STLS")
	}
	if mechs := s.mechanisms(); len(mechs) > 0 {
		if s.plainOffered() {
			lines = append(lines, "USER")
		}
		lines = append(lines, "SASL "+strings.Join(mechs, " "))
	}
	lines = append(lines, "IMPLEMENTATION mailblocks")
	return reply{ok: true, text: "capability list follows", body: func(w io.Writer) error {
		return writeLines(w, lines)
	}}
}

func writeLines(w io.Writer, lines []string) error {
	d := dotio.NewWriter(w)
	for _, l := range lines {
		if _, err := io.WriteString(d, l+"\r\n"); err != nil {
			return err
		}
	}
	return d.Close()
}

// cmdLang selects or lists languages (RFC 6856, 3). Our texts are English.
func (s *session) cmdLang(args string) reply {
	switch {
	case args == "":
		return reply{ok: true, text: "language listing follows", body: func(w io.Writer) error {
			return writeLines(w, []string{"en English"})
		}}
	case args == "*" || strings.EqualFold(args, "en") || strings.EqualFold(args, "i-default"):
		return okf("en now English")
	}
	return errText("no such language here")
}

func (s *session) count() (n int, size int64) {
	for i, m := range s.messages {
		if !s.deleted[i] {
			n++
			size += m.Size
		}
	}
	return n, size
}

// number returns the index of the message that arg numbers, or what is wrong with arg.
func (s *session) number(arg string) (i int, bad string) {
	n, err := strconv.ParseUint(arg, 10, 31)
	switch {
	case err != nil || arg[0] == '+':
		return 0, "not a message number"
	case n == 0 || n > uint64(len(s.messages)):
		return 0, "no such message"
	case s.deleted[n-1]:
		return 0, "message is deleted"
	}
	return int(n - 1), ""
}

// scan answers LIST and UIDL: one message's line, or those of all that are not deleted.
func (s *session) scan(args, text string, of func(i int) string) reply {
	if args != "" {
		i, bad := s.number(args)
		if bad != "" {
			return errText(bad)
		}
		return okf("%d %s", i+1, of(i))
	}
	return reply{ok: true, text: text, body: func(w io.Writer) error {
		var line []byte
		for i := range s.messages {
			if s.deleted[i] {
				continue
			}
			line = strconv.AppendInt(line[:0], int64(i+1), 10)
			line = append(line, ' ')
			line = append(line, of(i)...)
			line = append(line, '\r', '\n')
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		_, err := io.WriteString(w, ".\r\n")
		return err
	}}
}

func (s *session) cmdRetr(ctx context.Context, args string) reply {
	i, bad := s.number(args)
	if bad != "" {
		return errText(bad)
	}
	return s.send(ctx, i, func(w io.Writer, r io.Reader) error {
		buf := copyBuffers.Get().(*[]byte)
		defer copyBuffers.Put(buf)
		_, err := io.CopyBuffer(w, struct{ io.Reader }{r}, *buf)
		return err
	})
}

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

func (s *session) cmdTop(ctx context.Context, args string) reply {
	number, count, _ := strings.Cut(args, " ")
	i, bad := s.number(number)
	if bad != "" {
		return errText(bad)
	}
	lines, err := strconv.ParseUint(count, 10, 31)
	if err != nil || count[0] == '+' {
		return errText("not a number of lines")
	}
	return s.send(ctx, i, func(w io.Writer, r io.Reader) error { return copyTop(w, r, int(lines)) })
}

// send answers with a message. Once the first line is out an error of the maildrop can only
// be told by hanging up: no end of the message is sent.
func (s *session) send(ctx context.Context, i int, copy func(w io.Writer, r io.Reader) error) reply {
	body, err := s.drop.Open(ctx, i)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "message not opened", slog.String("uid", s.messages[i].UID), slog.Any("err", err))
		return errText("[SYS/TEMP] message cannot be read now")
	}
	return reply{ok: true, text: strconv.FormatInt(s.messages[i].Size, 10) + " octets", body: func(w io.Writer) error {
		defer body.Close()
		d := dotio.NewWriter(w)
		if err := copy(d, body); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "message not sent whole", slog.String("uid", s.messages[i].UID), slog.Any("err", err))
			return err
		}
		return d.Close()
	}}
}

// cmdQuit ends the session and, after a login, deletes what was marked (RFC 1939, 6). The maildrop
// is free before the client hears of it, who may come again at once.
func (s *session) cmdQuit(ctx context.Context) reply {
	s.quit = true
	if s.drop == nil {
		return okf("goodbye")
	}
	defer s.closeDrop(ctx)
	var marked []int
	for i, d := range s.deleted {
		if d {
			marked = append(marked, i)
		}
	}
	if len(marked) > 0 {
		if err := s.drop.Delete(ctx, marked); err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "messages not deleted", slog.Int("count", len(marked)), slog.Any("err", err))
			return errText("[SYS/TEMP] some deleted messages not removed")
		}
	}
	return okf("goodbye")
}
