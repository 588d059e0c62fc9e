package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/bodybuf"
)

// A message is on its way: without the fields that mbox programs keep in the header.
type message struct {
	body   bodybuf.Buffer
	sum    string // SHA-256 of the message without those, and without CRs, in hex
	fields map[string]string
}

// kept are the fields that belong to the mbox file, not to the message.
var kept = []string{"Status", "X-Status", "X-Keywords", "X-UID", "X-IMAP", "X-IMAPbase", "Content-Length"}

// readMessage reads r to its end. The fields of first, if any, are put before the message.
func readMessage(r io.Reader, first string) (*message, error) {
	m := &message{fields: make(map[string]string)}
	hash := sha256.New()
	in, out := bufio.NewReaderSize(r, 64<<10), bufio.NewWriter(io.MultiWriter(&m.body, noCR{hash}))
	_, err := io.WriteString(&m.body, first)
	if err == nil {
		err = m.copyHeader(in, out)
	}
	if err == nil {
		_, err = io.Copy(out, in)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		m.body.Close()
		return nil, err
	}
	m.sum = hex.EncodeToString(hash.Sum(nil))
	return m, nil
}

func (m *message) copyHeader(in *bufio.Reader, out *bufio.Writer) error {
	drop, start := "", true
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return err
		}
		if start && len(line) > 0 && line[0] != ' ' && line[0] != '\t' {
			drop = ""
			name, value, _ := bytes.Cut(line, []byte(":"))
			for _, k := range kept {
				if strings.EqualFold(k, string(name)) {
					drop = k
					m.fields[k] = strings.TrimSpace(string(value))
				}
			}
			if strings.EqualFold("Return-Path", string(name)) {
				m.fields["Return-Path"] = strings.Trim(strings.TrimSpace(string(value)), "<>")
			}
		} else if drop != "" {
			m.fields[drop] += " " + strings.TrimSpace(string(line))
		}
		if drop == "" {
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		if err == io.EOF || start && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return nil
		}
		start = err == nil
	}
}

// noCR leaves out each CR: how lines end tells nothing about a message.
type noCR struct{ w io.Writer }

func (n noCR) Write(p []byte) (int, error) {
	_, err := n.w.Write(bytes.ReplaceAll(p, []byte{'\r'}, nil))
	return len(p), err
}

// letters are the flags in mbox header fields.
var letters = []struct {
	field  string
	letter string
	flag   imap.SystemFlags
}{
	{"Status", "R", imap.Seen},
	{"X-Status", "A", imap.Answered}, {"X-Status", "F", imap.Flagged},
	{"X-Status", "T", imap.Draft}, {"X-Status", "D", imap.Deleted},
}

// flags returns what the message's fields say.
func (m *message) flags() imap.Flags {
	var system imap.SystemFlags
	for _, l := range letters {
		if strings.Contains(m.fields[l.field], l.letter) {
			system |= l.flag
		}
	}
	var words []string
	for _, w := range strings.Fields(m.fields["X-Keywords"]) {
		if f := imap.Flag(w); f.Valid() && f.System() == 0 {
			words = append(words, w)
		}
	}
	return imap.MakeFlags(system, words)
}

// formatFlags returns the fields for flags: what flags reads.
func formatFlags(flags imap.Flags) string {
	status := map[string]string{}
	for _, l := range letters {
		if flags.System()&l.flag != 0 {
			status[l.field] += l.letter
		}
	}
	text := "Status: " + status["Status"] + "O\r\n" // O: not recent
	if s := status["X-Status"]; s != "" {
		text += "X-Status: " + s + "\r\n"
	}
	if words := flags.Keywords(); len(words) > 0 {
		text += "X-Keywords: " + strings.Join(words, " ") + "\r\n"
	}
	return text
}

// internal tells whether the message is no mail, but a mail program's note on the file.
func (m *message) internal() bool { return m.fields["X-IMAP"] != "" }
