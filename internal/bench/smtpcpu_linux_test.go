package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/mailblocks/mailblocks/smtp"
)

// receivers run as processes of their own, so that their CPU can be told from the client's.
var receivers = map[string]func(net.Listener){
	"mailblocks": func(l net.Listener) {
		s := &smtp.Server{
			Hostname: "mx.example.org",
			Handler: smtp.HandlerFunc(func(_ context.Context, _ *smtp.Transaction, body smtp.Body) error {
				_, err := io.Copy(io.Discard, body)
				return err
			}),
			Logger: slog.New(slog.DiscardHandler), MaxConnections: -1, MaxConnectionsPerAddress: -1,
		}
		_ = s.Serve(l)
	},
	"go-smtp": func(l net.Listener) {
		s := gosmtp.NewServer(goBackend{})
		s.Domain = "mx.example.org"
		_ = s.Serve(l)
	},
	"bare": func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go bareLoop(c)
		}
	},
}

// bareLoop answers like a server without parsing, policy or limits: what the machine and the runtime cost.
func bareLoop(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 32<<10)
	w := bufio.NewWriter(c)
	say := func(s string) {
		_, _ = w.WriteString(s)
		if r.Buffered() == 0 {
			_ = w.Flush()
		}
	}
	say("220 mx.example.org ESMTP\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case line[0] == 'B':
			n, _ := strconv.Atoi(string(bytes.Fields(line)[1]))
			if _, err := r.Discard(n); err != nil {
				return
			}
			say("250 2.0.0 message accepted\r\n")
		case line[0] == 'D':
			say("354 end data with <CRLF>.<CRLF>\r\n")
			for {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
				if len(line) == 3 && line[0] == '.' {
					break
				}
			}
			say("250 2.0.0 message accepted\r\n")
		default:
			say("250 2.1.0 ok\r\n")
		}
	}
}

// tellMemory answers each line on standard input with the memory that is in use.
func tellMemory() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		fmt.Println(m.HeapInuse + m.StackInuse)
	}
}

func TestMain(m *testing.M) {
	if name := os.Getenv("BENCH_RECEIVER"); name != "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		go tellMemory()
		receivers[name](l)
		return
	}
	os.Exit(m.Run())
}

// startReceiver runs one, or Postfix's smtp-sink, and returns its process and address.
func startReceiver(b *testing.B, name string) (pid int, addr string) {
	pid, addr, _ = startAsked(b, name)
	return pid, addr
}

// startAsked is startReceiver with a function that asks for the memory in use.
func startAsked(b *testing.B, name string) (pid int, addr string, memory func() int64) {
	var cmd *exec.Cmd
	if name == "smtp-sink" {
		path := os.Getenv("SMTP_SINK")
		if path == "" {
			path, _ = exec.LookPath("smtp-sink")
		}
		if path == "" {
			b.Skip("smtp-sink is not installed (nor named by SMTP_SINK)")
		}
		l := listen(b)
		addr = l.Addr().String()
		l.Close()
		cmd = exec.Command(path, "-u", "nobody", "-m", "1000", addr, "100")
	} else {
		cmd = exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "BENCH_RECEIVER="+name)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	answers := bufio.NewReader(out)
	answer := func() string {
		line, err := answers.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
	if addr == "" {
		addr = answer()
	}
	return cmd.Process.Pid, addr, func() int64 {
		if _, err := io.WriteString(in, "\n"); err != nil {
			b.Fatal(err)
		}
		n, err := strconv.ParseInt(answer(), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
}

// BenchmarkSMTPIdle tells the memory, heap and stacks, of a connection that waits: one that
// has said EHLO, and one that has received a message of 4 KiB.
func BenchmarkSMTPIdle(b *testing.B) {
	const conns = 5000
	text := strings.Repeat(line, 4096/len(line))
	for _, after := range []string{"EHLO", "message"} {
		for _, name := range []string{"bare", "mailblocks", "go-smtp"} {
			b.Run(after+"/"+name, func(b *testing.B) {
				for b.Loop() {
					_, addr, memory := startAsked(b, name)
					connect(b, addr)
					before := memory()
					for range conns {
						conn, r := connect(b, addr)
						if after == "message" {
							send(b, conn, "MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
							replies(b, r, 3)
							send(b, conn, text+".\r\n")
							replies(b, r, 1)
						}
					}
					b.ReportMetric(float64(memory()-before)/conns, "B/conn")
				}
			})
		}
	}
}

// cpu returns the nanoseconds that a process has run.
func cpu(b *testing.B, pid int) (ns int64) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		b.Fatal("no schedstat", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		n, _ := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		ns += n
	}
	return ns
}

// connect retries until a receiver listens, and says EHLO.
func connect(b *testing.B, addr string) (net.Conn, *bufio.Reader) {
	for try := 0; ; try++ {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			if try == 10000 {
				b.Fatal(err)
			}
			continue
		}
		b.Cleanup(func() { conn.Close() })
		r := bufio.NewReader(conn)
		replies(b, r, 1)
		send(b, conn, "EHLO client.example.org\r\n")
		replies(b, r, 1)
		return conn, r
	}
}

// BenchmarkSMTPServerCPU tells the CPU that a server process spends on a message of 4 KiB which
// it discards, over one connection, without the client's.
func BenchmarkSMTPServerCPU(b *testing.B) {
	text := strings.Repeat(line, 4096/len(line))
	scripts := map[string][]step{
		"lockstep":  {{"MAIL FROM:<a@example.org>\r\n", 1}, {"RCPT TO:<b@example.org>\r\n", 1}, {"DATA\r\n", 1}, {text + ".\r\n", 1}},
		"pipelined": {{"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", 3}, {text + ".\r\n", 1}},
		"bdat":      {{fmt.Sprintf("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT %d LAST\r\n%s", len(text), text), 3}},
	}
	for _, mode := range []string{"lockstep", "pipelined", "bdat"} {
		for _, name := range []string{"bare", "mailblocks", "go-smtp", "smtp-sink"} {
			if name == "smtp-sink" && mode == "bdat" {
				continue
			}
			b.Run(mode+"/"+name, func(b *testing.B) {
				pid, addr := startReceiver(b, name)
				conn, r := connect(b, addr)
				before := cpu(b, pid)
				for b.Loop() {
					for _, s := range scripts[mode] {
						send(b, conn, s.out)
						replies(b, r, s.replies)
					}
				}
				b.ReportMetric(float64(cpu(b, pid)-before)/float64(b.N)/1000, "server-µs/op")
			})
		}
	}
}
