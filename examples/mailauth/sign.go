package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
)

// sign writes the message with its signatures in front. Selectors and keys
// belong together in their order.
func (c *command) sign(ctx context.Context) error {
	selectors := strings.Split(c.selector, ",")
	if c.domain == "" || len(c.keys) == 0 || len(selectors) != len(c.keys) {
		return errors.New("sign: -domain, -selector and -key are needed, a selector for each key")
	}
	opt := dkim.SignOptions{Now: c.now}
	for i, path := range c.keys {
		key, err := dkim.LoadKey(path)
		if err != nil {
			return err
		}
		opt.Keys = append(opt.Keys, dkim.SigningKey{Domain: c.domain, Selector: selectors[i], Signer: key})
	}
	signer, err := dkim.NewSigner(opt)
	if err != nil {
		return err
	}
	var message bytes.Buffer
	if err := copyMessage(&message, c.in); err != nil {
		return err
	}
	signer.Write(message.Bytes())
	fields, err := signer.Finish()
	if err != nil {
		return err
	}
	if _, err := c.out.Write(fields); err != nil {
		return err
	}
	_, err = message.WriteTo(c.out)
	return err
}

// keygen makes a key and prints the record to publish.
func (c *command) keygen(ctx context.Context) error {
	if c.domain == "" || c.selector == "" || len(c.keys) != 1 {
		return errors.New("keygen: -domain, -selector and one -key are needed")
	}
	key, err := dkim.GenerateKey(c.keyType)
	if err != nil {
		return err
	}
	line, err := dkim.SigningKey{Domain: c.domain, Selector: c.selector, Signer: key}.ZoneLine()
	if err != nil {
		return err
	}
	if err := dkim.SaveKey(c.keys[0], key); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, line)
	return err
}
