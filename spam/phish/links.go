package phish

import (
	"net/netip"
	"net/url"
	"strings"
	"unicode/utf8"
)

// links looks at where a message leads.
func (f *finder) links() {
	for i := range f.m.Links {
		l := &f.m.Links[i]
		if l.Tag == "img" || l.Tag == "link" {
			continue
		}
		u, host := parse(l.URL)
		if u == nil {
			continue
		}
		if scanned(host) { // what it leads to is what the sender wrote
			if u, host = parse(redirects(u)); u == nil {
				continue
			}
		}
		org := organisation(host)
		if l.Tag == "form" {
			f.add("phish-form", host, 1)
		}
		f.target(u, host)
		if l.Tag == "a" || l.Tag == "area" {
			f.text(l.Text, host, org)
		}
	}
	if hidden := utf8.RuneCountInString(strings.TrimSpace(f.m.Hidden)); hidden > 400 && hidden > 2*utf8.RuneCountInString(f.m.Text) {
		f.add("phish-hidden-text", strings.TrimSpace(f.m.Hidden), 1.5)
	}
}

// parse returns a web address and its host in lower case, or nil.
func parse(s string) (*url.URL, string) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, ""
	}
	return u, strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
}

// target judges an address by itself.
func (f *finder) target(u *url.URL, host string) {
	if u.User != nil && u.User.String() != "" {
		f.add("phish-userinfo", u.User.Username()+"@"+host, 3)
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsPrivate() && !ip.IsLoopback() {
		f.add("phish-address", host, 2)
	}
	if strings.HasPrefix(host, "xn--") || strings.Contains(host, ".xn--") {
		f.add("phish-punycode", host, 1)
	}
	if shorteners[organisation(host)] || shorteners[host] {
		f.add("phish-shortener", host, 0.5)
	}
	if _, to := parse(redirects(u)); to != "" && organisation(to) != organisation(host) {
		f.add("phish-redirect", host+" to "+to, 1.5)
	}
	// The name of somebody well known in front of a domain of somebody else.
	if brand := f.brand(strings.NewReplacer("-", " ", ".", " ").Replace(host)); len(brand) > 4 && !f.owns(brand, organisation(host)) {
		f.add("phish-host", host, 1)
	}
}

// text compares the address that a link shows with the one that it leads to.
func (f *finder) text(text, host, org string) {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" || strings.ContainsAny(text, " \n@") || org == "" {
		return
	}
	if !strings.Contains(text, "://") {
		if !strings.HasPrefix(text, "www.") && !strings.Contains(text, "/") {
			return
		}
		text = "http://" + text
	}
	_, shown := parse(text)
	if shownOrg := organisation(shown); shownOrg != "" && shownOrg != org && strings.Contains(shown, ".") {
		f.add("phish-link-text", shown+" leads to "+host, 1.5)
	}
}

// redirects returns the address that another one says it leads on to, or "".
func redirects(u *url.URL) string {
	found := ""
	for _, values := range u.Query() {
		for _, v := range values {
			if to, _ := parse(v); to != nil && (found == "" || v < found) { // of several always the same
				found = v
			}
		}
	}
	return found
}

// scanned reports whether a host belongs to a service that a receiver's filter leads all links through.
func scanned(host string) bool {
	for _, service := range []string{"safelinks.protection.outlook.com", "safelinks.protection.office365.us", "urldefense.proofpoint.com", "urldefense.com", "linkprotect.cudasvc.com", "mimecast.com", "secure-web.cisco.com"} {
		if host == service || strings.HasSuffix(host, "."+service) {
			return true
		}
	}
	return false
}

var shorteners = map[string]bool{
	"bit.ly": true, "tinyurl.com": true, "t.co": true, "goo.gl": true, "ow.ly": true, "is.gd": true, "buff.ly": true, "cutt.ly": true, "rb.gy": true, "t.ly": true,
	"rebrand.ly": true, "shorturl.at": true, "s.id": true, "tiny.cc": true, "bl.ink": true, "lnkd.in": true, "qrco.de": true, "v.gd": true, "soo.gd": true, "clck.ru": true,
}
