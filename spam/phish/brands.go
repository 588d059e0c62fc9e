package phish

import "strings"

// brands are names that letters to steal by like to come under, and the domains under which their owners
// send mail. A name stands for itself as a whole word.
var brands = func() map[string][]string {
	m := map[string][]string{}
	for line := range strings.Lines(brandTable) {
		names, domains, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(names, ",") {
			m[strings.TrimSpace(name)] = strings.Fields(domains)
		}
	}
	return m
}()

// ordinary are those names that people and things have, too.
var ordinary = map[string]bool{
	"apple": true, "chase": true, "ups": true, "meta": true, "ledger": true, "caixa": true, "hermes": true, "yeti": true, "kraken": true, "outlook": true,
	"webmail": true, "steam": true, "norton": true, "marriott": true, "irs": true, "aws": true, "google": true, "amazon": true, "adobe": true,
}

const brandTable = `
	paypal: paypal.com paypal.de paypal.co.uk paypal.fr xoom.com
	microsoft, office 365, office365, microsoft 365, onedrive, sharepoint, outlook: microsoft.com microsoftonline.com office.com office365.com outlook.com sharepoint.com sharepointonline.com live.com msn.com azure.com xbox.com skype.com
	windows defender, xbox: microsoft.com xbox.com
	apple, icloud, itunes, apple id: apple.com icloud.com itunes.com
	amazon, amazon prime, aws: amazon.com amazon.de amazon.co.uk amazon.fr amazon.it amazon.es amazon.ca amazon.in amazon.co.jp amazonaws.com amazonses.com
	netflix: netflix.com
	disney+, disney plus: disneyplus.com disney.com
	spotify: spotify.com
	facebook, meta, instagram, whatsapp: facebook.com facebookmail.com fb.com meta.com metamail.com instagram.com whatsapp.com
	linkedin: linkedin.com
	google, gmail, youtube: google.com gmail.com youtube.com googlemail.com
	adobe, adobe sign: adobe.com adobesign.com echosign.com
	docusign: docusign.com docusign.net
	dropbox: dropbox.com dropboxmail.com
	wetransfer: wetransfer.com
	ebay: ebay.com ebay.de ebay.co.uk
	dhl, dhl express: dhl.com dhl.de
	fedex: fedex.com
	ups: ups.com
	usps: usps.com usps.gov
	correios: correios.com.br
	royal mail: royalmail.com
	hermes, evri: evri.com myhermes.co.uk
	chase, jpmorgan: chase.com jpmorgan.com
	wells fargo: wellsfargo.com
	bank of america: bankofamerica.com bofa.com
	citibank: citi.com citibank.com
	capital one: capitalone.com
	american express, amex: americanexpress.com aexp.com
	hsbc: hsbc.com hsbc.co.uk
	barclays: barclays.co.uk barclays.com
	lloyds: lloydsbank.co.uk lloydsbanking.com
	santander: santander.com santander.com.br santander.co.uk
	bradesco: bradesco.com.br
	banco do brasil: bb.com.br
	itau, itaú: itau.com.br
	nubank: nubank.com.br
	caixa: caixa.gov.br
	mercado livre, mercado pago, mercadopago: mercadolivre.com mercadolivre.com.br mercadopago.com mercadopago.com.br mercadolibre.com
	serasa: serasa.com.br serasaexperian.com.br
	sparkasse: sparkasse.de
	volksbank: volksbank.de vr.de
	commerzbank: commerzbank.de commerzbank.com
	ing-diba: ing.de ing.com
	postbank: postbank.de
	credit agricole, crédit agricole: credit-agricole.fr ca-cib.com
	ameli: ameli.fr assurance-maladie.fr
	coinbase: coinbase.com
	binance: binance.com
	metamask: metamask.io consensys.io
	trust wallet, trustwallet: trustwallet.com
	blockchain.com: blockchain.com
	ledger: ledger.com ledger.fr
	trezor: trezor.io satoshilabs.com
	kraken: kraken.com
	crypto.com: crypto.com
	norton, lifelock: norton.com nortonlifelock.com gendigital.com
	mcafee: mcafee.com
	geek squad, geeksquad, best buy: bestbuy.com geeksquad.com
	costco: costco.com
	walmart: walmart.com
	walgreens: walgreens.com
	cvs: cvs.com cvshealth.com
	lowe's, lowes: lowes.com
	home depot: homedepot.com
	kohl's, kohls: kohls.com
	ace hardware: acehardware.com
	sam's club: samsclub.com
	starbucks: starbucks.com
	lidl: lidl.com lidl.de
	marriott: marriott.com
	booking.com: booking.com
	airbnb: airbnb.com
	steam: steampowered.com valvesoftware.com
	roblox: roblox.com
	t-mobile: t-mobile.com telekom.de
	verizon: verizon.com verizonwireless.com
	at&t: att.com att-mail.com
	xfinity, comcast: comcast.net xfinity.com comcast.com
	cpanel, webmail: cpanel.net
	godaddy: godaddy.com
	irs: irs.gov
	hmrc: hmrc.gov.uk gov.uk
	state farm: statefarm.com
	omaha steaks: omahasteaks.com
	yeti: yeti.com
	harbor freight: harborfreight.com
`
