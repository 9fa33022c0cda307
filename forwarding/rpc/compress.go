package rpc

import (
	"sync"

	"github.com/klauspost/compress/zstd"

	"landbridge/store"
)

// compressMin is the size from which a body is worth compressing.
const compressMin = 1 << 10

// compressor packs bodies with zstd. A nil compressor packs nothing. Encoder
// and decoder are made on first use, since most agents of a LAN need neither.
type compressor struct {
	encoder func() *zstd.Encoder
	decoder func() *zstd.Decoder
	maxBody uint64
}

func newCompressor(maxBody int) *compressor {
	return &compressor{
		maxBody: uint64(maxBody),
		encoder: sync.OnceValue(func() *zstd.Encoder {
			// The options are constant and valid: an error is a broken build.
			e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithLowerEncoderMem(true))
			if err != nil {
				panic(err)
			}
			return e
		}),
		decoder: sync.OnceValue(func() *zstd.Decoder {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(uint64(maxBody)), zstd.WithDecoderMaxWindow(8<<20))
			if err != nil {
				panic(err)
			}
			return d
		}),
	}
}

// pack returns body compressed, if that is worth it.
func (z *compressor) pack(body []byte) ([]byte, bool) {
	if z == nil || len(body) < compressMin {
		return nil, false
	}
	packed := z.encoder().EncodeAll(body, make([]byte, 0, len(body)/2))
	// A gain below an eighth does not pay for unpacking.
	if len(packed) > len(body)-len(body)/8 {
		return nil, false
	}
	return packed, true
}

// unpack undoes pack. grow, if not nil, is asked before memory is taken for the
// size that the header declares; that size is trusted no further than maxBody.
func (z *compressor) unpack(packed []byte, grow func(more int) error) ([]byte, error) {
	if z == nil {
		return nil, store.Errorf(store.KindInternal, "compressed body: was not asked for")
	}
	var h zstd.Header
	if err := h.Decode(packed); err != nil {
		return nil, store.Errorf(store.KindInvalid, "compressed body: %w", err)
	}
	if !h.HasFCS || h.FrameContentSize > z.maxBody {
		return nil, store.Errorf(store.KindTooLarge, "compressed body: declares %d bytes, at most %d are accepted", h.FrameContentSize, z.maxBody)
	}
	if grow != nil {
		if err := grow(int(h.FrameContentSize)); err != nil {
			return nil, err
		}
	}
	body, err := z.decoder().DecodeAll(packed, nil)
	if err != nil {
		return nil, store.Errorf(store.KindInvalid, "compressed body: %w", err)
	}
	return body, nil
}
