package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/smtp"
)

// A TLSReporter tells domains that ask for it how TLS with their mail exchangers went: a report a day (RFC 8460). Give Note to
// Transport.TLSResult, and call Run.
//
// Reports go by mail through the queue, where the Transport's Prepare has to sign them (RFC 8460, 3), or by HTTPS. One that can not be
// delivered is tried again for a day.
type TLSReporter struct {
	// Store takes the reports that go by mail, Resolver finds who wants them. Required.
	Store    queue.Store
	Resolver resolver.Resolver

	// Organization is who reports, Contact the address to ask, from which reports come; its domain is the
	// submitter. Required.
	Organization, Contact string

	// Dir is a folder of its own where results and reports are kept over restarts; it is made when it is not there. Empty
	// means memory alone.
	Dir string

	// HTTP posts reports; nil means a client that gives up after 30 seconds.
	HTTP *http.Client

	// Delay is how long after midnight, UTC, reports are made; a time at random within an hour is added. 0 means 10 minutes.
	Delay time.Duration

	Logger *slog.Logger // nil means slog.Default()

	results tlsrpt.Collector
	unsaved atomic.Bool     // something has changed since save
	unsent  []*unsentReport // Run's
}

// An unsentReport is one that is to be delivered. Its file has the name of its ID.
type unsentReport struct {
	Domain   string
	Report   tlsrpt.Report
	Tries    int
	Next     time.Time
	Deadline time.Time
}

// Note takes a result; it is for Transport.TLSResult. It may be called before Run, and at any time.
func (r *TLSReporter) Note(at time.Time, s tlsrpt.Session) {
	r.results.Add(at, s)
	r.unsaved.Store(true)
}

func (r *TLSReporter) log() *slog.Logger {
	if r.Logger == nil {
		return slog.Default()
	}
	return r.Logger
}

// saveEvery is how much a crash can cost.
const saveEvery = 5 * time.Minute

// Run makes and delivers reports until ctx ends, and then saves what it has. The error is that of reading Dir at the beginning, or
// of the last saving.
func (r *TLSReporter) Run(ctx context.Context) error {
	if err := r.load(); err != nil {
		return err
	}
	delay := r.Delay
	if delay == 0 {
		delay = 10 * time.Minute
	}
	var seed [2]byte
	rand.Read(seed[:])
	delay += time.Duration(int(seed[0])<<8|int(seed[1])) * time.Hour >> 16
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		now := time.Now()
		for _, day := range r.results.Days() {
			if !now.Before(day.Add(24*time.Hour + delay)) {
				r.Close(day, now)
			}
		}
		r.Deliver(ctx, now)
		if err := r.save(); err != nil {
			r.log().LogAttrs(ctx, slog.LevelError, "TLS results not saved", slog.Any("err", err))
		}
		select {
		case <-ctx.Done():
			return r.save()
		case <-tick.C:
		}
	}
}

// Close makes the reports of a UTC day, for Deliver. Run does this; a program with a schedule of its own may.
func (r *TLSReporter) Close(day, now time.Time) {
	r.unsaved.Store(true)
	for domain, results := range r.results.Take(day) {
		_, submitter := smtp.SplitAddress(r.Contact)
		sum := sha256.Sum256([]byte(domain + "\x00" + day.Format(time.DateOnly) + "\x00" + r.Contact))
		u := &unsentReport{Domain: domain, Next: now, Deadline: now.Add(24 * time.Hour), Report: tlsrpt.Report{
			Organization: r.Organization, DateRange: tlsrpt.Day(day), Contact: r.Contact,
			ID:       day.Format("20060102") + "." + hex.EncodeToString(sum[:8]) + "@" + submitter, // the same after a crash: duplicates are told by it
			Policies: results,
		}}
		r.unsent = append(r.unsent, u)
	}
}

// Deliver tries the reports that are due. Those that can not be delivered stay, for a day from when they were made.
func (r *TLSReporter) Deliver(ctx context.Context, now time.Time) {
	r.unsent = slices.DeleteFunc(r.unsent, func(u *unsentReport) bool {
		if ctx.Err() != nil || now.Before(u.Next) {
			return false
		}
		r.unsaved.Store(true)
		err := r.deliver(ctx, u, now)
		if err == nil || errors.Is(err, tlsrpt.ErrNoRecord) || errors.Is(err, tlsrpt.ErrRecord) {
			return true
		}
		u.Tries++
		u.Next = now.Add(15 * time.Minute << min(u.Tries-1, 6)) // RFC 8460, 5.5: exponential backoff
		over := u.Next.After(u.Deadline)
		r.log().LogAttrs(ctx, slog.LevelWarn, "TLS report not delivered", slog.String("domain", u.Domain),
			slog.Bool("given_up", over), slog.Any("err", err))
		return over
	})
}

// deliver sends a report to the first of the places that the domain names which takes it.
func (r *TLSReporter) deliver(ctx context.Context, u *unsentReport, now time.Time) error {
	record, err := tlsrpt.Lookup(ctx, r.Resolver, u.Domain)
	if err != nil {
		return err
	}
	packed, err := u.Report.Gzip()
	if err != nil {
		return err
	}
	var errs []error
	for _, uri := range record.URIs {
		to, err := url.Parse(uri)
		if err == nil && to.Scheme == "mailto" {
			err = r.mail(ctx, u, to, packed, now)
		} else if err == nil {
			err = r.post(ctx, to, packed)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", uri, err))
	}
	return errors.Join(errs...)
}

func (r *TLSReporter) post(ctx context.Context, to *url.URL, packed []byte) error {
	client := r.HTTP
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(packed))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode/100 != 2 {
		return errors.New(res.Status)
	}
	return nil
}

// mail enqueues a report as the message of RFC 8460, 5.3. TLS-Required keeps the very trouble that it reports from holding it up.
func (r *TLSReporter) mail(ctx context.Context, u *unsentReport, to *url.URL, packed []byte, now time.Time) error {
	address, err := url.PathUnescape(to.Opaque)
	if err != nil || strings.ContainsAny(address, "\r\n<>") {
		return fmt.Errorf("not an address: %q", to.Opaque)
	}
	_, submitter := smtp.SplitAddress(r.Contact)
	boundary := rand.Text()
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nTo: <%s>\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n", r.Contact, address, now.Format(time.RFC1123Z), rand.Text(), submitter)
	fmt.Fprintf(&b, "Subject: Report Domain: %s\r\n\tSubmitter: %s\r\n\tReport-ID: <%s>\r\n", u.Domain, submitter, u.Report.ID)
	fmt.Fprintf(&b, "TLS-Report-Domain: %s\r\nTLS-Report-Submitter: %s\r\nTLS-Required: No\r\nAuto-Submitted: auto-generated\r\n", u.Domain, submitter)
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\"%s\"\r\n\r\n", boundary)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", boundary)
	fmt.Fprintf(&b, "This is a report about TLS in mail sent to %s by %s.\r\n\r\n", u.Domain, submitter)
	fmt.Fprintf(&b, "--%s\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n", boundary)
	fmt.Fprintf(&b, "Content-Disposition: attachment;\r\n\tfilename=\"%s\"\r\n\r\n", u.Report.FileName(u.Domain))
	b.Write(base64Lines(packed))
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	_, err = r.Store.Enqueue(ctx, queue.Message{
		Envelope: queue.Envelope{
			ReversePath: r.Contact, Recipients: []queue.Recipient{{Address: address, Notify: queue.NotifyNever}},
			Expires: u.Deadline,
		},
		Body: &b, SizeHint: int64(b.Len()),
	})
	return err
}

func (r *TLSReporter) path(name string) string { return filepath.Join(r.Dir, name) }

// load reads what save wrote.
func (r *TLSReporter) load() error {
	if r.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return fmt.Errorf("queue/relay: TLS results: %w", err)
	}
	f, err := os.Open(r.path("results.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("queue/relay: TLS results: %w", err)
	}
	defer f.Close()
	if err := r.results.Load(f); err != nil {
		return err
	}
	b, err := os.ReadFile(r.path("unsent.json"))
	if err == nil {
		err = json.Unmarshal(b, &r.unsent)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("queue/relay: TLS reports: %w", err)
	}
	return nil
}

// save writes the reports first: what a crash leaves twice has the same Report-ID.
func (r *TLSReporter) save() (err error) {
	if r.Dir == "" || !r.unsaved.Swap(false) {
		return nil
	}
	defer func() {
		if err != nil {
			r.unsaved.Store(true)
		}
	}()
	b, err := json.Marshal(r.unsent)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(r.path("unsent.json"), b, 0o600); err != nil {
		return err
	}
	return atomicfile.WriteFunc(r.path("results.json"), 0o600, r.results.Save)
}
