package httpapi

import (
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// gzips holds writers, each with some 800 KB of tables that are dear to make.
var gzips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

func getGzip(w io.Writer) *gzip.Writer {
	gz := gzips.Get().(*gzip.Writer)
	gz.Reset(w)
	return gz
}

func putGzip(gz *gzip.Writer) {
	gz.Reset(nil) // lets go of the connection
	gzips.Put(gz)
}
