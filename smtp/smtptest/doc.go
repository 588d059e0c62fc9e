// Package smtptest helps to test programs that send or receive mail: Server takes
// everything and keeps it, Script plays a server after a text, good manners or bad.
package smtptest
