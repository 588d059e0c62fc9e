// Package smtp is an SMTP and LMTP server and client.
package smtp
