package pages

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
)

const (
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	// What bbolt tries when it looks for the second meta page.
	minPageSize = 1 << 10
	maxPageSize = 1 << 24

	// noFreelist in place of the freelist's page: bbolt finds the free pages itself.
	noFreelist = ^uint64(0)
)

// meta is what follows the header of pages 0 and 1, as bbolt's common.Meta. Commits
// write the two in turn; the valid one with the higher TxID tells how the file is.
type meta struct {
	Magic    uint32
	Version  uint32
	PageSize uint32
	Flags    uint32
	Root     uint64 // page of the root bucket
	Sequence uint64
	Freelist uint64 // page of the freelist
	Pages    uint64 // numbers from here on are not in use: the high-water mark
	TxID     uint64
	Checksum uint64 // FNV-64a of all before it
}

const metaSize = 64

// metaPage is a meta page, or why there is none.
type metaPage struct {
	meta meta
	err  error
}

func (f *File) readMeta(at int64) (meta, error) {
	b := make([]byte, metaSize)
	if err := f.readAt(b, at+headerSize); err != nil {
		return meta{}, err
	}
	var m meta
	if _, err := binary.Decode(b, binary.NativeEndian, &m); err != nil {
		return meta{}, err
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8]) // a hash never fails
	return m, m.validate(sum.Sum64())
}

func (m meta) validate(sum uint64) error {
	switch {
	case m.Magic != metaMagic:
		return errors.New("not a meta page")
	case m.Checksum != sum:
		return fmt.Errorf("checksum %016x, want %016x", sum, m.Checksum)
	case m.Version != metaVersion:
		return fmt.Errorf("version %d, this program knows %d", m.Version, metaVersion)
	case m.PageSize < minPageSize || m.PageSize > maxPageSize || m.PageSize&(m.PageSize-1) != 0:
		return fmt.Errorf("page size %d", m.PageSize)
	}
	return nil
}

// newest returns the meta page that bbolt would go by.
func (f *File) newest() (meta, error) {
	p, other := f.metas[0], f.metas[1]
	if other.err == nil && (p.err != nil || other.meta.TxID > p.meta.TxID) {
		p = other
	}
	if p.err != nil {
		return meta{}, fmt.Errorf("%w: no valid meta page: 0: %w; 1: %w", ErrDamaged, p.err, other.err)
	}
	return p.meta, nil
}
