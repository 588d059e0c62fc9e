package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

// config is what the command line and the file of -config say.
type config struct {
	data, hostname   string
	domains, users   list
	listeners        map[string]string // name → address
	store, queue     string
	smarthost, dns   string
	tlsCert, tlsKey  string
	insecureAuth     bool
	noSpam, noAuth   bool
	logLevel         slog.Level
	logJSON          bool
	retry            durations
	queueLife        time.Duration
	delayWarning     time.Duration
	breaker          time.Duration
	relayPort        int
	demo             bool // no account was named: two are made
	defaultListeners bool // no address was named
	passwords        map[string]string
}

// A list is a flag that may be repeated.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

type durations []time.Duration

func (d *durations) String() string { return fmt.Sprint(*d) }
func (d *durations) Set(s string) error {
	*d = nil
	for part := range strings.SplitSeq(s, ",") {
		v, err := time.ParseDuration(part)
		if err != nil || v <= 0 {
			return fmt.Errorf("%q is no positive duration", part)
		}
		*d = append(*d, v)
	}
	return nil
}

// protocols are the listeners in the order they are printed, with the address each has when
// none is named at all.
var protocols = []struct{ name, addr, usage string }{
	{"smtp", "127.0.0.1:2525", "take mail from other servers"},
	{"submission", "127.0.0.1:1587", "take mail from users, STARTTLS"},
	{"submissions", "127.0.0.1:1465", "take mail from users, TLS"},
	{"lmtp", "", "take mail for local delivery; host:port or unix:PATH"},
	{"imap", "127.0.0.1:1143", "serve mail by IMAP, STARTTLS"},
	{"imaps", "127.0.0.1:1993", "serve mail by IMAP, TLS"},
	{"pop3", "127.0.0.1:1110", "serve mail by POP3, STLS"},
	{"pop3s", "127.0.0.1:1995", "serve mail by POP3, TLS"},
	{"http", "127.0.0.1:8025", "/healthz, /metrics and the queue page"},
}

func parseConfig(args []string, errOut io.Writer) (*config, error) {
	cfg := &config{listeners: make(map[string]string)}
	fs := flag.NewFlagSet("mailserver", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.StringVar(&cfg.data, "data", "mailserver-data", "`folder` of everything that is kept")
	fs.StringVar(&cfg.hostname, "hostname", "", "`name` of this host (default: mx. and the first domain)")
	fs.Var(&cfg.domains, "domain", "local `domain`; repeatable (default: those of the users)")
	fs.Var(&cfg.users, "user", "account, as `ADDRESS:PASSWORD`; repeatable")
	for _, p := range protocols {
		fs.Func(p.name, "`address` to "+p.usage+"; port 0 picks a free one", func(addr string) error {
			cfg.listeners[p.name] = addr
			return nil
		})
	}
	fs.StringVar(&cfg.store, "store", "", "`where` mail is kept: maildir:DIR, mbox:DIR or memory (default: maildir in the data folder)")
	fs.StringVar(&cfg.queue, "queue", "", "`where` the queue is kept: spool:DIR (default: in the data folder)")
	fs.StringVar(&cfg.smarthost, "smarthost", "", "send all outgoing mail to `HOST:PORT`")
	fs.StringVar(&cfg.dns, "dns", "", "ask the DNS server at `HOST:PORT` (default: those of the system)")
	fs.StringVar(&cfg.tlsCert, "tls-cert", "", "certificate `file` (default: a self-signed one in the data folder)")
	fs.StringVar(&cfg.tlsKey, "tls-key", "", "key `file` of the certificate")
	fs.BoolVar(&cfg.insecureAuth, "insecure-auth", false, "let users log in without TLS")
	fs.BoolVar(&cfg.noSpam, "no-spam", false, "no spam filter")
	fs.BoolVar(&cfg.noAuth, "no-dnsauth", false, "no SPF, DKIM and DMARC checks")
	fs.TextVar(&cfg.logLevel, "log-level", slog.LevelInfo, "`level` of the log: debug, info, warn, error")
	fs.BoolVar(&cfg.logJSON, "log-json", false, "log in JSON")
	configFile := fs.String("config", "", "`file` of further options: a name and a value a line, as above without the dash")
	fs.Var(&cfg.retry, "retry", "`intervals` between delivery attempts, as 5m,20m,1h (default: minutes to hours)")
	fs.DurationVar(&cfg.queueLife, "queue-life", 0, "how `long` delivery is tried (default: 5 days)")
	fs.DurationVar(&cfg.delayWarning, "delay-warning", 0, "`age` at which a sender is told of a delay (default: 4 h)")
	fs.DurationVar(&cfg.breaker, "breaker", 0, "how `long` a destination that is down is left alone (default: 30 s, doubling)")
	fs.IntVar(&cfg.relayPort, "relay-port", 25, "`port` of other servers")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("what is %q?", fs.Arg(0))
	}
	if *configFile != "" {
		if err := readConfigFile(fs, *configFile); err != nil {
			return nil, err
		}
	}
	return cfg, cfg.complete()
}

// readConfigFile sets what the command line did not: that counts.
func readConfigFile(fs *flag.FlagSet, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	given := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		name, value, _ := strings.Cut(strings.TrimSpace(in.Text()), " ")
		if name == "" || name[0] == '#' || given[name] {
			continue
		}
		if value = strings.TrimSpace(value); value == "" {
			value = "true" // a switch
		}
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	return in.Err()
}

// complete fills in what was left out and refuses what cannot be.
func (cfg *config) complete() error {
	cfg.passwords = make(map[string]string)
	for _, u := range cfg.users {
		address, password, ok := strings.Cut(u, ":")
		local, domain := smtp.SplitAddress(address)
		if !ok || local == "" || domain == "" || password == "" {
			return errors.New("-user takes ADDRESS:PASSWORD")
		}
		cfg.passwords[canonical(address)] = password
		if !slices.Contains(cfg.domains, domain) {
			cfg.domains = append(cfg.domains, domain)
		}
	}
	if len(cfg.domains) == 0 {
		cfg.domains = list{"example.org"}
	}
	for i, d := range cfg.domains {
		cfg.domains[i] = strings.ToLower(d)
	}
	cfg.demo = len(cfg.users) == 0
	if cfg.hostname == "" {
		cfg.hostname = "mx." + cfg.domains[0]
	}
	if cfg.defaultListeners = len(cfg.listeners) == 0; cfg.defaultListeners {
		for _, p := range protocols {
			if p.addr != "" {
				cfg.listeners[p.name] = p.addr
			}
		}
	}
	if (cfg.tlsCert == "") != (cfg.tlsKey == "") {
		return errors.New("-tls-cert and -tls-key go together")
	}
	if cfg.store == "" {
		cfg.store = "maildir:" + filepath.Join(cfg.data, "mail")
	}
	if cfg.queue == "" {
		cfg.queue = "spool:" + filepath.Join(cfg.data, "queue")
	}
	for _, addr := range []string{cfg.smarthost, cfg.dns} {
		if addr == "" {
			continue
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("%s: no such port", addr)
		}
	}
	return nil
}

func (cfg *config) newLogger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.logLevel}
	if cfg.logJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// listenOn opens an address of the command line. An address that nobody named and that is
// taken gives way to a free port.
func (cfg *config) listenOn(addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		_ = os.Remove(path) // of an earlier run
		return net.Listen("unix", path)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil && cfg.defaultListeners {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	return ln, err
}
