package smtp

import "strconv"

// Replies that the server gives of its own accord.
var (
	replyOK          = &Reply{Code: 250, Enhanced: EnhancedCode{2, 0, 0}, Text: "ok"}
	replyFlushed     = &Reply{Code: 250, Enhanced: EnhancedCode{2, 0, 0}, Text: "flushed"}
	replySender      = &Reply{Code: 250, Enhanced: EnhancedCode{2, 1, 0}, Text: "sender ok"}
	replyRecipient   = &Reply{Code: 250, Enhanced: EnhancedCode{2, 1, 5}, Text: "recipient ok"}
	replyData        = &Reply{Code: 354, Text: "end data with <CRLF>.<CRLF>"}
	replyAccepted    = &Reply{Code: 250, Enhanced: EnhancedCode{2, 0, 0}, Text: "message accepted"}
	replyChunk       = &Reply{Code: 250, Enhanced: EnhancedCode{2, 0, 0}, Text: "chunk received"}
	replyBye         = &Reply{Code: 221, Enhanced: EnhancedCode{2, 0, 0}, Text: "bye"}
	replyVerify      = &Reply{Code: 252, Enhanced: EnhancedCode{2, 5, 0}, Text: "not verified, but mail will be tried"}
	replyTLS         = &Reply{Code: 220, Enhanced: EnhancedCode{2, 0, 0}, Text: "ready to start TLS"}
	replyAuthed      = &Reply{Code: 235, Enhanced: EnhancedCode{2, 7, 0}, Text: "authenticated"}
	replyShutdown    = &Reply{Code: 421, Enhanced: EnhancedCode{4, 3, 2}, Text: "server is shutting down"}
	replyTimeout     = &Reply{Code: 421, Enhanced: EnhancedCode{4, 4, 2}, Text: "timeout, closing connection"}
	replyInternal    = &Reply{Code: 451, Enhanced: EnhancedCode{4, 3, 0}, Text: "local trouble, try again later"}
	replyInternal421 = &Reply{Code: 421, Enhanced: EnhancedCode{4, 3, 0}, Text: "local trouble, try again later"}

	replyTooManyErrors = &Reply{Code: 421, Enhanced: EnhancedCode{4, 7, 0}, Text: "too many errors, closing connection"}
	replyTooManyMails  = &Reply{Code: 421, Enhanced: EnhancedCode{4, 7, 0}, Text: "as many messages as one connection may bring, come again"}
	replyTooManyRcpts  = &Reply{Code: 452, Enhanced: EnhancedCode{4, 5, 3}, Text: "too many recipients"}
	replyLineTooLong   = &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 2}, Text: "line too long"}
	replyBareCommand   = &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 2}, Text: "bare CR or LF: lines end in CRLF (RFC 5321, 2.3.8)", Close: true}
	replyBareBody      = &Reply{Code: 554, Enhanced: EnhancedCode{5, 6, 0}, Text: "bare CR or LF in the message (RFC 5321, 2.3.8)", Close: true}
	replyBareChunk     = &Reply{Code: 554, Enhanced: EnhancedCode{5, 6, 0}, Text: "bare CR or LF in the message (RFC 5321, 2.3.8)"}
	replyUnknown       = &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 1}, Text: "command not recognized"}
	replyNotVerb       = &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 1}, Text: "not a command, closing connection", Close: true}
	replyNotHere       = &Reply{Code: 502, Enhanced: EnhancedCode{5, 5, 1}, Text: "command not available"}
	replyNoArg         = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Text: "no argument allowed"}
	replySequence      = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Text: "bad sequence of commands"}
	replyHelloFirst    = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Text: "say EHLO first"}
	replyNestedMail    = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Text: "nested MAIL command"}
	replyNeedReset     = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Text: "need RSET behind a BDAT that failed"}
	replyNeedMail      = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Text: "need MAIL command"}
	replyNeedRcpt      = &Reply{Code: 554, Enhanced: EnhancedCode{5, 5, 1}, Text: "no valid recipients"}
	replyNeedRcptLMTP  = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Text: "no valid recipients"}
	replyHelloArg      = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Text: "a domain or address literal is needed"}
	replyMailSyntax    = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 2}, Text: "syntax: MAIL FROM:<address>"}
	replyRcptSyntax    = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 2}, Text: "syntax: RCPT TO:<address>"}
	replyBadSender     = &Reply{Code: 501, Enhanced: EnhancedCode{5, 1, 7}, Text: "bad sender address syntax"}
	replyBadRecipient  = &Reply{Code: 501, Enhanced: EnhancedCode{5, 1, 3}, Text: "bad recipient address syntax"}
	replyNeedUTF8      = &Reply{Code: 553, Enhanced: EnhancedCode{5, 6, 7}, Text: "address needs SMTPUTF8"}
	replyBadUTF8       = &Reply{Code: 501, Enhanced: EnhancedCode{5, 1, 7}, Text: "address is not UTF-8"}
	replyTooBig        = &Reply{Code: 552, Enhanced: EnhancedCode{5, 3, 4}, Text: "message too big"}
	replyHoldLong      = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Text: "held back for too long"}
	replyNeedTLS       = &Reply{Code: 530, Enhanced: EnhancedCode{5, 7, 0}, Text: "must issue STARTTLS first"}
	replyNeedAuth      = &Reply{Code: 530, Enhanced: EnhancedCode{5, 7, 0}, Text: "authentication required"}
	replyBinaryData    = &Reply{Code: 503, Enhanced: EnhancedCode{5, 5, 1}, Text: "BINARYMIME needs BDAT"}
	replyBdatSyntax    = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Text: "syntax: BDAT size [LAST]", Close: true}
	replyInjected      = &Reply{Code: 554, Enhanced: EnhancedCode{5, 5, 1}, Text: "nothing may be pipelined behind STARTTLS", Close: true}
	replyPipelined     = &Reply{Code: 554, Enhanced: EnhancedCode{5, 5, 0}, Text: "nothing may be pipelined behind this command", Close: true}
	replyEarly         = &Reply{Code: 554, Enhanced: EnhancedCode{5, 5, 1}, Text: "wait for the greeting", Close: true}
	replyNoMechanism   = &Reply{Code: 504, Enhanced: EnhancedCode{5, 5, 4}, Text: "mechanism not available"}
	replyAuthTLS       = &Reply{Code: 538, Enhanced: EnhancedCode{5, 7, 11}, Text: "AUTH needs TLS"}
	replyAuthFailed    = &Reply{Code: 535, Enhanced: EnhancedCode{5, 7, 8}, Text: "authentication failed"}
	replyAuthTrouble   = &Reply{Code: 454, Enhanced: EnhancedCode{4, 7, 0}, Text: "temporary authentication failure"}
	replyAuthCancel    = &Reply{Code: 501, Enhanced: EnhancedCode{5, 7, 0}, Text: "authentication cancelled"}
	replyAuthBase64    = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 2}, Text: "not base64"}
	replyAuthLong      = &Reply{Code: 500, Enhanced: EnhancedCode{5, 5, 6}, Text: "line too long"}
	replyAuthBlocked   = &Reply{Code: 454, Enhanced: EnhancedCode{4, 7, 0}, Text: "too many failures, try again later"}
	replyAuthLimit     = &Reply{Code: 421, Enhanced: EnhancedCode{4, 7, 0}, Text: "too many authentication failures"}
)

// maxReplyLine bounds a line of a reply, CRLF included (RFC 5321, 4.5.3.1.5).
const maxReplyLine = 512

// reply appends r to the output. With plain set, it has no enhanced code: the greeting
// and the reply to EHLO are without (RFC 2034, 4). Every line is checked: whatever a Handler
// puts in Text, nothing but text leaves in it.
func (c *conn) reply(r *Reply, plain bool) error {
	enh := r.Enhanced
	if plain || c.conf.ext&ExtEnhancedCodes == 0 || r.Code/100 == 3 {
		enh = EnhancedCode{}
	} else if enh == (EnhancedCode{}) || enh[0] != r.Code/100 {
		enh = EnhancedCode{r.Code / 100, 0, 0}
	}
	var buf [maxReplyLine]byte
	for text, more := r.Text, true; more; {
		line := buf[:0]
		line = strconv.AppendInt(line, int64(r.Code), 10)
		line = append(line, ' ')
		if enh != (EnhancedCode{}) {
			line = append(enh.append(line), ' ')
		}
		i := 0
		for i < len(text) && text[i] != '\n' && len(line) < maxReplyLine-2 {
			switch ch := text[i]; {
			case ch == '\r':
			case ch == '\t':
				line = append(line, ' ')
			case ch < ' ' || ch == 0x7f, ch >= 0x80 && !(c.inTx && c.tx.Params.UTF8):
				line = append(line, '?')
			default:
				line = append(line, ch)
			}
			i++
		}
		if i < len(text) && text[i] == '\n' {
			i++
		} else {
			more = i < len(text)
		}
		if text = text[i:]; more {
			line[3] = '-'
		}
		line = append(line, '\r', '\n')
		if err := c.write(line); err != nil {
			return err
		}
	}
	return nil
}
