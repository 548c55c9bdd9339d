package spool_test

import (
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
			if !errors.Is(err, spool.ErrDamaged) {
				t.Fatalf("not ErrDamaged: %v", err)
			}
			return
		}
		again, err := spool.Decode(r.Encode())
		if err != nil || again.ID != r.ID || string(again.Data) != string(r.Data) || !again.At.Equal(r.At) {
			t.Fatalf("%+v, %v; want %+v", again, err, r)
		}
	})
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
