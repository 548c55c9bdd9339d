package spool_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/jobspool/jobspool/spool"
)

func FuzzDecodeRecord(f *testing.F) {
	f.Add(record(1).Encode())
	f.Add(spool.Record{}.Encode())
	f.Add([]byte{1, 0, 0, 0, 0, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := spool.Decode(b)
		if err != nil {
			if !errors.Is(err, spool.ErrDamaged) && !errors.Is(err, spool.ErrVersion) {
				t.Fatalf("neither ErrDamaged nor ErrVersion: %v", err)
			}
			return
		}
		again, err := spool.Decode(r.Encode())
		if err != nil || again.ID != r.ID || string(again.Data) != string(r.Data) || !again.At.Equal(r.At) {
			t.Fatalf("%+v, %v; want %+v", again, err, r)
		}
	})
}

// FuzzDecodeValue gives every decoder bytes behind a good seal.
func FuzzDecodeValue(f *testing.F) {
	for kind, sample := range spool.Samples() {
		f.Add(kind, sample[5:])
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		once := spool.Recode(kind, spool.SealAs(kind, body))
		if twice := spool.Recode(kind, once); !bytes.Equal(once, twice) {
			t.Fatalf("%s: %x, decoded and encoded again %x", kind, once, twice)
		}
	})
}

func TestEveryKindOfValueComesBack(t *testing.T) {
	for kind, sample := range spool.Samples() {
		if got := spool.Recode(kind, sample); !bytes.Equal(got, sample) {
			t.Errorf("%s: %x, want %x", kind, got, sample)
		}
		for i := range len(sample) * 8 {
			sample[i/8] ^= 1 << (i % 8)
			if spool.Recode(kind, sample) != nil {
				t.Errorf("%s: flipped bit %d is not seen", kind, i)
			}
			sample[i/8] ^= 1 << (i % 8)
		}
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	b := record(1).Encode()
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, err := spool.Decode(b); !errors.Is(err, spool.ErrDamaged) {
			t.Fatalf("bit %d: %v", i, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	if _, err := spool.Decode(b); err != nil {
		t.Fatal(err)
	}
}
