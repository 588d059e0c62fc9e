//go:build linux

package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/queue/spool"
	"github.com/mailblocks/mailblocks/smtp"
)

const messagesBeside = 20_000

// BenchmarkBesidePostfix sends 20,000 messages of 4 KiB from Postfix's smtp-source, 50 sessions that stay, through a server with a queue to Postfix's
// smtp-sink, until the last has arrived: ours, and Postfix in its default configuration (see mta_linux_test.go for where it is looked for).
// Both sync before they answer 250. The CPU is that of the server's processes, user and system.
//
//	MAILBLOCKS_MTAS=... go test ./queue/relay -run '^$' -bench BesidePostfix -benchtime 1x
func BenchmarkBesidePostfix(b *testing.B) {
	root := mtaRoot(b, "postfix")
	for _, tool := range []string{"smtp-source", "smtp-sink"} {
		if _, err := os.Stat(filepath.Join(root, "usr/sbin", tool)); err != nil {
			b.Skip(tool + " is not installed")
		}
	}
	b.Setenv("LD_LIBRARY_PATH", root+"/usr/lib/postfix")
	for _, server := range []struct {
		name  string
		start func(b *testing.B, next string) (port string, pid int)
	}{
		{"mailblocks", startChild},
		{"postfix", func(b *testing.B, next string) (string, int) { return startMTA(b, "postfix", next) }},
	} {
		b.Run(server.name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				sinkPort := freePort(b)
				counts := filepath.Join(b.TempDir(), "sink")
				sink := exec.Command(filepath.Join(root, "usr/sbin/smtp-sink"), "-c", "-u", "nobody", "127.0.0.1:"+sinkPort, "1000")
				waitPort(b, sinkPort, start(b, sink, counts, func() string { return "" }), "smtp-sink", func() string { return "" })
				port, pid := server.start(b, sinkPort)
				before := cpuOf(b, pid)
				b.StartTimer()
				began := time.Now()
				source := exec.Command(filepath.Join(root, "usr/sbin/smtp-source"), "-d", "-s", "50", "-m", strconv.Itoa(messagesBeside), "-l", "4096",
					"-f", "from@example.org", "-t", "to@dest.test", "127.0.0.1:"+port)
				out, err := source.CombinedOutput()
				require.NoError(b, err, "%s", out)
				accepted := time.Since(began)
				for arrived(b, counts) < messagesBeside {
					require.Less(b, time.Since(began), 10*time.Minute, "mail does not arrive")
					time.Sleep(5 * time.Millisecond)
				}
				took := time.Since(began)
				b.StopTimer()
				b.ReportMetric(messagesBeside/accepted.Seconds(), "accepts/s")
				b.ReportMetric(messagesBeside/took.Seconds(), "messages/s")
				b.ReportMetric(float64((cpuOf(b, pid)-before).Microseconds())/messagesBeside, "CPU-µs/message")
				b.StartTimer()
			}
		})
	}
}

// arrived reads the last of smtp-sink's counts.
func arrived(b *testing.B, file string) int {
	f, err := os.Open(file)
	require.NoError(b, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(b, err)
	tail := make([]byte, min(info.Size(), 200))
	_, err = f.ReadAt(tail, info.Size()-int64(len(tail)))
	require.True(b, err == nil || err == io.EOF, err)
	at := bytes.LastIndex(tail, []byte("mesg="))
	end := bytes.LastIndexByte(tail, '\r')
	if at < 0 || end < at {
		return 0
	}
	n, err := strconv.Atoi(string(tail[at+5 : end]))
	require.NoError(b, err)
	return n
}

// cpuOf is what a process and its descendants, those that have ended too, have used.
func cpuOf(b *testing.B, pid int) time.Duration {
	type process struct {
		parent int
		ticks  int
	}
	all := map[int]process{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(b, err)
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		id, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.Atoi(id)
		require.NoError(b, err)
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		p := process{}
		p.parent, _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			ticks, _ := strconv.Atoi(f)
			p.ticks += ticks
		}
		all[n] = p
	}
	sum := 0
	for n, p := range all {
		for id := n; id > 1; id = all[id].parent {
			if id == pid {
				sum += p.ticks
				break
			}
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond // USER_HZ is 100
}

// startChild runs TestRelayChild in a process of its own.
func startChild(b *testing.B, next string) (port string, pid int) {
	self, err := os.Executable()
	require.NoError(b, err)
	port = freePort(b)
	cmd := exec.Command(self, "-test.run", "^TestRelayChild$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("MAILBLOCKS_RELAY_CHILD=%s %s %s", port, next, b.TempDir()))
	waitPort(b, port, start(b, cmd, filepath.Join(b.TempDir(), "out"), func() string { return "" }), "the child", func() string { return "" })
	return port, cmd.Process.Pid
}

// TestRelayChild is the server of BenchmarkBesidePostfix, and no test by itself.
func TestRelayChild(t *testing.T) {
	args := strings.Fields(os.Getenv("MAILBLOCKS_RELAY_CHILD"))
	if len(args) != 3 {
		t.Skip("it is BenchmarkBesidePostfix that runs this")
	}
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	store, err := spool.Open(args[2], nil)
	require.NoError(t, err)
	defer store.Close()
	quiet := slog.New(slog.DiscardHandler)
	tr := &relay.Transport{
		Resolver: &resolver.Cache{Next: resolver.MustParseZones("dest.test. MX 10 mx.dest.test.\nmx.dest.test. A 127.0.0.1")},
		Hostname: "relay.test", Addresses: []netip.Addr{}, AllowLoopback: true,
	}
	tr.Port, err = strconv.Atoi(args[1])
	require.NoError(t, err)
	defer tr.Close()
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	require.NoError(t, err)
	server := &smtp.Server{
		Handler: &relay.Handler{Store: store}, Hostname: "mx.test", Logger: quiet, MaxConnections: -1, MaxConnectionsPerAddress: -1,
	}
	go server.Serve(l)
	defer server.Close()
	runner := queue.Runner{Store: store, Transport: tr, Report: (&dsn.Writer{Hostname: "relay.test"}).Report, Logger: quiet}
	require.NoError(t, runner.Run(ctx))
}
