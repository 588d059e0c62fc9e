package dkim

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func FuzzSignature(f *testing.F) {
	f.Add("v=1; a=rsa-sha256; c=relaxed/simple; d=example.org; s=s1; i=a=20b@x.example.org; l=10; t=1; x=2; q=dns/txt; h=From : To; bh=YWJj; b=YWJj")
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := ParseSignature(s)
		if err != nil {
			return
		}
		assert.NotEmpty(t, sig.Headers)
		assert.NotEmpty(t, sig.Signature)
		assert.Equal(t, sig.Domain, strings.ToLower(sig.Domain))
		assert.LessOrEqual(t, sig.bEnd, len(s))
		id, err := decodeQP(encodeQP(sig.Identity))
		assert.NoError(t, err)
		assert.Equal(t, sig.Identity, id)
	})
}

func FuzzKey(f *testing.F) {
	f.Add("v=DKIM1; k=ed25519; h=sha256:sha1; s=email; t=y:s; n=note; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Add("k=rsa; p=")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err != nil {
			return
		}
		again, err := ParseKey(k.String())
		if assert.NoError(t, err, k.String()) {
			assert.Equal(t, k, again)
		}
	})
}
