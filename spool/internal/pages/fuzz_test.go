package pages_test

import (
	"bytes"
	"testing"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

// FuzzFile reads any bytes, as they are and with their meta pages made valid, and
// expects an end.
func FuzzFile(f *testing.F) {
	// Small ones: the fuzzer's time goes with the length.
	var records []pair
	for seq := range uint64(12) {
		records = append(records, pair{"records", string(key(seq)), string(value(seq, 100))})
	}
	inline := []pair{{"held", "k", "v"}, {"meta", "meta", "v"}}
	big := pair{"records", "big", string(value(1, 1500))}
	f.Add(trim(makeFile(f, 1<<10, put(inline...), put(records...))))
	f.Add(trim(makeFile(f, 1<<10, put(inline...), put(big), put(records[0]))))
	f.Add(trim(makeFile(f, 1<<10)))
	f.Add([]byte{})
	loop := forgedFile(4)
	copy(loop[2*forgedPage:], branchPage(forgedPage, 2, 3))
	copy(loop[3*forgedPage:], branchPage(forgedPage, 3, 2))
	f.Add(loop)
	f.Fuzz(func(t *testing.T, b []byte) {
		readAll(t, b)
		readAll(t, seal(seal(bytes.Clone(b), 1<<10), 1<<12))
	})
}

// trim cuts off the zeros at the end.
func trim(b []byte) []byte { return bytes.TrimRight(b, "\x00") }

func readAll(t *testing.T, b []byte) {
	t.Helper()
	f := pages.Open(bytes.NewReader(b), int64(len(b)))
	allDamaged(t, f.Check())
	for _, name := range buckets() {
		n := 0
		allDamaged(t, f.Walk(name, func(k, v []byte) bool { n += len(k) + len(v); return true })...)
		if n > 64*len(b) {
			t.Errorf("Walk hands out %d bytes of %d", n, len(b))
		}
	}
	n := 0
	allDamaged(t, f.Scan(func(_, k, v []byte) bool { n += len(k) + len(v); return true })...)
	if n > 64*len(b) {
		t.Errorf("Scan hands out %d bytes of %d", n, len(b))
	}
}
