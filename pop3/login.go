package pop3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// mechanisms lists what can be used to log in now.
func (s *session) mechanisms() []string {
	if s.drop != nil || s.tls == nil && !s.server.AllowInsecureAuth {
		return nil
	}
	return s.server.Authenticator.Mechanisms(s.tls)
}

func (s *session) plainOffered() bool { return slices.Contains(s.mechanisms(), "PLAIN") }

const needTLS = "[AUTH] start TLS first"

func (s *session) cmdUser(args string) reply {
	switch {
	case len(s.mechanisms()) == 0 && s.tls == nil:
		return errText(needTLS)
	case !s.plainOffered():
		return errText("[AUTH] use AUTH")
	case args == "":
		return errText("USER needs a name")
	case !utf8.ValidString(args): // RFC 6856, 2.2
		return errText("[AUTH] not UTF-8")
	}
	s.user = args // said to be fine whoever it is: who exists is not told
	return okf("send PASS")
}

// cmdPass checks the password by PLAIN. It is the rest of the line, spaces included
// (RFC 1939, 7).
func (s *session) cmdPass(ctx context.Context, args string) reply {
	user := s.user
	s.user = ""
	if user == "" {
		return errText("send USER first")
	}
	identity, err := s.exchange(ctx, "PLAIN", []byte("\x00"+user+"\x00"+args))
	return s.login(ctx, identity, err)
}

// cmdAPOP checks a digest of the greeting's timestamp and the password (RFC 1939, 7).
func (s *session) cmdAPOP(ctx context.Context, args string) reply {
	user, digest, _ := strings.Cut(args, " ")
	switch {
	case s.server.Secret == nil:
		return errText("APOP is not available")
	case s.tls == nil && !s.server.AllowInsecureAuth:
		return errText(needTLS)
	case user == "" || !utf8.ValidString(user):
		return errText("APOP needs a name and a digest")
	}
	if s.blocked() {
		return s.login(ctx, "", errBlocked)
	}
	secret, identity, err := s.server.Secret(ctx, user)
	if err != nil && !errors.Is(err, ErrNoUser) {
		return s.login(ctx, "", temporary{err})
	}
	// For an unknown user a digest is made and compared all the same.
	sum := md5.Sum([]byte(s.stamp + secret))
	equal := subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(strings.ToLower(digest))) == 1
	if err == nil && !equal {
		err = errors.New("wrong digest")
	}
	return s.login(ctx, identity, err)
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }
func (t temporary) Unwrap() error { return t.error }

// cmdAuth runs a SASL exchange (RFC 5034).
func (s *session) cmdAuth(ctx context.Context, args string) reply {
	s.user = ""
	mechs := s.mechanisms()
	if len(mechs) == 0 && s.tls == nil {
		return errText(needTLS)
	}
	mech, initial, _ := strings.Cut(args, " ")
	mech = strings.ToUpper(mech)
	if !slices.Contains(mechs, mech) {
		return errText("[AUTH] no such mechanism")
	}
	var response []byte
	switch initial {
	case "":
	case "=":
		response = []byte{}
	default:
		var err error
		if response, err = base64.StdEncoding.DecodeString(initial); err != nil {
			return errText("not base64")
		}
	}
	identity, err := s.exchange(ctx, mech, response)
	return s.login(ctx, identity, err)
}

var (
	errCancelled = errors.New("exchange cancelled by the client")
	errBase64    = errors.New("response is not base64")
	errBlocked   = errors.New("too many failed logins from this address")
	errBroken    = errors.New("exchange broken off")
)

// blocked reports whether the peer's address has failed to log in too often.
func (s *session) blocked() bool {
	return s.server.failures.Blocked(s.remote().Addr(), orDefault(s.server.MaxAuthFailuresPerAddress, 30), time.Now())
}

// exchange runs a mechanism to its end and returns who logged in.
func (s *session) exchange(ctx context.Context, mech string, response []byte) (identity string, err error) {
	if s.blocked() {
		return "", errBlocked
	}
	proved := false
	server, err := s.server.Authenticator.Start(ctx, mech, s.remote(), s.tls, func(id string) error {
		identity, proved = id, true
		return nil
	})
	if err != nil {
		return "", err
	}
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return "", err
		}
		if done && len(challenge) == 0 {
			break
		}
		// Data that comes with success travels in a last challenge (RFC 5034, 4).
		_, _ = s.w.WriteString("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n")
		line, err := s.readLine(maxAuthLine)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errBroken, err)
		}
		if bytes.Equal(line, []byte("*")) {
			return "", errCancelled
		}
		if response, err = base64.StdEncoding.DecodeString(string(line)); err != nil {
			return "", errBase64
		}
		if done {
			break
		}
	}
	if !proved {
		return "", errors.New("the mechanism ended without an identity")
	}
	return identity, nil
}

// login opens the maildrop after a successful exchange.
func (s *session) login(ctx context.Context, identity string, err error) reply {
	switch {
	case err == nil:
	case errors.Is(err, errCancelled) || errors.Is(err, errBase64):
		return errText(err.Error())
	case errors.Is(err, errBroken):
		s.log.LogAttrs(ctx, slog.LevelInfo, "login broken off", slog.Any("err", err))
		return reply{silent: true, hangUp: true}
	case errors.Is(err, errBlocked):
		s.log.LogAttrs(ctx, slog.LevelWarn, "login refused", slog.Any("err", err))
		return reply{text: "[SYS/TEMP] too many failed logins, try later", hangUp: true}
	case isTemporary(err):
		s.log.LogAttrs(ctx, slog.LevelError, "login not checked", slog.Any("err", err))
		return errText("[SYS/TEMP] cannot check credentials now")
	default:
		return s.refuseLogin(ctx, err)
	}
	if !s.server.mayLogIn(identity, time.Now()) {
		return errText("[LOGIN-DELAY] too soon after your last login")
	}
	drop, err := s.server.Open(ctx, identity)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "maildrop not opened", slog.String("identity", identity), slog.Any("err", err))
		switch {
		case errors.Is(err, ErrInUse):
			return errText("[IN-USE] another session has this maildrop")
		case errors.Is(err, ErrPermanent):
			return errText("[SYS/PERM] maildrop cannot be opened")
		}
		return errText("[SYS/TEMP] maildrop cannot be opened now")
	}
	s.drop, s.identity, s.messages = drop, identity, drop.Messages()
	s.deleted = make([]bool, len(s.messages))
	s.log = s.log.With(slog.String("identity", identity))
	s.log.LogAttrs(ctx, slog.LevelInfo, "logged in", slog.Int("messages", len(s.messages)), slog.Bool("tls", s.tls != nil))
	n, size := s.count()
	return okf("%d messages (%d octets)", n, size)
}

// refuseLogin answers a wrong credential: late, and only so many times.
func (s *session) refuseLogin(ctx context.Context, err error) reply {
	s.authFailures++
	s.server.failures.Add(s.remote().Addr(), time.Now())
	s.log.LogAttrs(ctx, slog.LevelWarn, "login refused", slog.Int("failures", s.authFailures), slog.Any("err", err))
	if delay := orDefault(s.server.FailureDelay, time.Second); delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return reply{text: "[AUTH] wrong user or password", hangUp: s.authFailures >= orDefault(s.server.MaxAuthFailures, 3)}
}

func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// cmdStls starts TLS (RFC 2595, 4). Commands sent along with it in the clear are somebody
// else's: the session ends.
func (s *session) cmdStls(ctx context.Context) reply {
	switch {
	case s.server.TLSConfig == nil:
		return errText("TLS is not available")
	case s.tls != nil:
		return errText("TLS is active already")
	case s.utf8: // RFC 6856, 2.1
		return errText("STLS comes before UTF8")
	case s.r.Buffered() > 0:
		s.log.LogAttrs(ctx, slog.LevelWarn, "commands pipelined behind STLS")
		return reply{text: "commands after STLS", hangUp: true}
	}
	s.say(okf("begin TLS"))
	if err := s.flush(); err != nil {
		return reply{silent: true, hangUp: true}
	}
	c, err := s.handshake(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelInfo, "tls handshake failed", slog.Any("err", err))
		return reply{silent: true, hangUp: true}
	}
	s.user = ""
	s.use(c)
	return reply{ok: true, silent: true}
}
