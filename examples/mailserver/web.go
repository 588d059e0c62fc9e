package main

import (
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/pop3"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/smtp"
)

// web serves what operators look at. It shows envelopes: bind it to an address of theirs.
func (s *server) web() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		for _, err := range s.queue.List(r.Context(), queue.Filter{Limit: 1}) {
			if err != nil {
				http.Error(w, "queue: "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /queue", s.queuePage)
	mux.HandleFunc("POST /queue", s.queueAction)
	return mux
}

const queuePageLimit = 500

var queueTemplate = template.Must(template.New("queue").Funcs(template.FuncMap{
	"when": func(t time.Time) string { return t.Format(time.DateTime) },
}).Parse(`<!doctype html><meta charset="utf-8"><title>Queue</title>
<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.3em .8em;text-align:left;border-bottom:1px solid #ccc;vertical-align:top}</style>
<h1>Queue: {{len .}} messages{{if eq (len .) ` + strconv.Itoa(queuePageLimit) + `}} shown{{end}}</h1>
<table><tr><th>ID<th>Arrived<th>From<th>To<th>Next attempt<th>
{{range .}}<tr><td>{{.ID}}<td>{{when .Envelope.Arrived}}<td>{{or .Envelope.ReversePath "<>"}}
<td>{{range .Envelope.Recipients}}{{.Address}} {{if .Last.Text}}<small>{{.Last.Code}} {{.Last.Text}}</small>{{end}}<br>{{end}}
<td>{{range .Items}}{{.Route}}: {{.State}} {{when .Due}}<br>{{end}}
<td><form method="post"><input type="hidden" name="id" value="{{.ID}}">
<button name="op" value="kick">try now</button> <button name="op" value="hold">hold</button> <button name="op" value="release">release</button>
<button name="op" value="expire">give up</button> <button name="op" value="remove">remove</button></form>
{{end}}</table>
`))

func (s *server) queuePage(w http.ResponseWriter, r *http.Request) {
	var entries []*queue.Entry
	for e, err := range s.queue.List(r.Context(), queue.Filter{Limit: queuePageLimit}) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		entries = append(entries, e)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	if err := queueTemplate.Execute(w, entries); err != nil {
		slog.Debug("queue page not sent", slog.Any("err", err))
	}
}

var queueOps = map[string]queue.Op{"kick": queue.OpKick, "hold": queue.OpHold, "release": queue.OpRelease, "expire": queue.OpExpire, "remove": queue.OpRemove}

func (s *server) queueAction(w http.ResponseWriter, r *http.Request) {
	// Another site's page must not press our buttons.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		http.Error(w, "cross-site request", http.StatusForbidden)
		return
	}
	op, ok := queueOps[r.FormValue("op")]
	id := r.FormValue("id")
	if !ok || id == "" {
		http.Error(w, "which operation, on which message?", http.StatusBadRequest)
		return
	}
	n, err := s.queue.Alter(r.Context(), queue.Filter{IDs: []queue.ID{queue.ID(id)}}, queue.Change{Op: op})
	switch {
	case errors.Is(err, queue.ErrNotFound) || err == nil && n == 0:
		http.Error(w, "no such message, or nothing to do", http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		http.Redirect(w, r, "/queue", http.StatusSeeOther)
	}
}

// metrics counts what the packages report through their Trace structs.
type metrics struct {
	registry  *prometheus.Registry
	commands  *prometheus.HistogramVec
	mailboxes *prometheus.CounterVec
	attempts  *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		commands: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mail_command_seconds", Help: "Time commands took.", Buckets: []float64{.0001, .001, .01, .1, 1, 10},
		}, []string{"protocol", "command"}),
		mailboxes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mail_delivered_total", Help: "Messages put into mailboxes.",
		}, []string{"mailbox"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mail_queue_outcomes_total", Help: "Outcomes of delivery attempts, by recipient.",
		}, []string{"result"}),
	}
	m.registry.MustRegister(m.commands, m.mailboxes, m.attempts)
	return m
}

func (m *metrics) delivered(mailbox string) { m.mailboxes.WithLabelValues(mailbox).Inc() }

func (m *metrics) command(protocol, verb string, took time.Duration) {
	if verb == "" {
		verb = "?"
	}
	m.commands.WithLabelValues(protocol, verb).Observe(took.Seconds())
}

func (m *metrics) smtpTrace() *smtp.Trace {
	return &smtp.Trace{CommandDone: func(_ context.Context, s *smtp.Session, verb string, _ int, took time.Duration) {
		protocol := "smtp"
		if s.Mode == smtp.ModeLMTP {
			protocol = "lmtp"
		}
		m.command(protocol, verb, took)
	}}
}

func (m *metrics) imapTrace() *imapserver.Trace {
	return &imapserver.Trace{CommandDone: func(_ context.Context, command, _ string, took time.Duration) { m.command("imap", command, took) }}
}

func (m *metrics) pop3Trace() *pop3.Trace {
	return &pop3.Trace{CommandDone: func(_ context.Context, verb string, _ bool, took time.Duration) { m.command("pop3", verb, took) }}
}

func (m *metrics) queueTrace() *queue.Trace {
	return &queue.Trace{Attempt: func(_ context.Context, _ *queue.Attempt, outcomes []queue.Outcome, _ time.Duration) {
		for _, o := range outcomes {
			m.attempts.WithLabelValues(o.Result.String()).Inc()
		}
	}}
}
