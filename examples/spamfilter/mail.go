package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/spam"
)

// messages calls f with each message at path: a file, an mbox or a Maildir.
func messages(path string, f func(m *spam.Message) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return maildir(path, f)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.HasSuffix(path, ".eml") || !bytes.HasPrefix(data, []byte("From ")) {
		return message(data, f)
	}
	for len(data) > 0 {
		one := data
		// A line "From " after an empty line begins the next message.
		if i := nextFrom(data); i >= 0 {
			one, data = data[:i], data[i:]
		} else {
			data = nil
		}
		if err := message(one, f); err != nil {
			return err
		}
	}
	return nil
}

func nextFrom(data []byte) int {
	for at := 1; ; {
		i := bytes.Index(data[at:], []byte("\nFrom "))
		if i < 0 {
			return -1
		}
		at += i + 1
		if before := bytes.TrimSuffix(data[:at-1], []byte("\r")); bytes.HasSuffix(before, []byte("\n")) {
			return at
		}
	}
}

func maildir(path string, f func(m *spam.Message) error) error {
	read := 0
	for _, sub := range []string{"cur", "new"} {
		entries, err := os.ReadDir(filepath.Join(path, sub))
		if err != nil {
			continue
		}
		read++
		for _, e := range entries {
			if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			data, err := os.ReadFile(filepath.Join(path, sub, e.Name()))
			if err != nil {
				return err
			}
			if err := message(data, f); err != nil {
				return err
			}
		}
	}
	if read == 0 {
		return &os.PathError{Op: "read Maildir", Path: path, Err: os.ErrNotExist}
	}
	return nil
}

func message(data []byte, f func(m *spam.Message) error) error {
	m, err := spam.Parse(bytes.NewReader(data), spam.Limits{})
	if err != nil {
		return err
	}
	return f(m)
}
