package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A note tells what was done, in lines:
//
//	"did" *( SP id )                    these messages are there
//	"try" SP offset SP sum *( SP id )   they may be: the mbox was offset octets long, and
//	                                    sum is the first one's
type note struct {
	f    *os.File
	done map[string]bool
	// The last try, when no did follows.
	open   []string
	offset int64
	sum    string
}

func openNote(path string) (*note, error) {
	n := &note{done: make(map[string]bool)}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	whole := strings.LastIndexByte(string(text), '\n') + 1 // what a crash cut is not believed
	lines := bufio.NewScanner(strings.NewReader(string(text[:whole])))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		n.open = nil
		switch {
		case len(words) > 0 && words[0] == "did":
			for _, id := range words[1:] {
				n.done[id] = true
			}
		case len(words) > 3 && words[0] == "try":
			n.offset, _ = strconv.ParseInt(words[1], 10, 64)
			n.sum, n.open = words[2], words[3:]
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if n.f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err = n.f.Truncate(int64(whole)); err == nil {
		_, err = n.f.Seek(int64(whole), 0)
	}
	if err != nil {
		n.f.Close()
		return nil, err
	}
	return n, nil
}

func (n *note) write(words ...string) error {
	if _, err := n.f.WriteString(strings.Join(words, " ") + "\n"); err != nil {
		return err
	}
	return n.f.Sync()
}

func (n *note) try(offset int64, sum string, ids []string) error {
	return n.write(append([]string{"try", strconv.FormatInt(offset, 10), sum}, ids...)...)
}

func (n *note) did(ids []string) error {
	for _, id := range ids {
		n.done[id] = true
	}
	return n.write(append([]string{"did"}, ids...)...)
}

func (n *note) close() error { return n.f.Close() }
