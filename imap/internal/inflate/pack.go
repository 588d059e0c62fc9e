package inflate

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"
)

// minPacked is the least history that is worth packing.
const minPacked = 2 << 10

var packers = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

func packHistory(hist []byte) []byte {
	var b bytes.Buffer
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(&b)
	_, _ = w.Write(hist) // into memory
	_ = w.Close()
	return bytes.Clone(b.Bytes())
}

func unpackHistory(packed []byte) []byte {
	hist, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), window))
	if err != nil {
		panic(err) // we made it ourselves
	}
	return hist
}
