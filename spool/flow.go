package spool

import (
	"encoding/binary"
	"strings"
)

const (
	// OtherFlow is the flow of those that a segment does not tell apart: it knows
	// maxFlows by name. FlowOf returns it for no class.
	OtherFlow = "\x00"

	maxFlows = 256
)

// FlowOf returns the flow of a class: what comes before its first NUL, or all of it. The
// records of a flow keep their order; flows do not wait for each other.
func FlowOf(class string) string {
	name, _, _ := strings.Cut(class, "\x00")
	return name
}

// flow is what a segment counts of one flow.
type flow struct {
	name      string
	watermark uint64 // its records below are settled, but for held and dead
	pending   uint64 // held ones included
}

// flows are those of a segment. One that is there keeps its place: its number.
type flows []flow

// named returns the number of the flow with this very name, or -1.
func (fs flows) named(name string) int {
	for i := range fs {
		if fs[i].name == name {
			return i
		}
	}
	return -1
}

// of returns the number of the flow that has the records of a class, or -1.
func (fs flows) of(class string) int {
	if i := fs.named(FlowOf(class)); i >= 0 {
		return i
	}
	return fs.named(OtherFlow)
}

// enter is of for a class whose record is about to be appended: it gets a flow if it has
// none. Once there are others, nobody gets a name: those others may have its records.
func (fs *flows) enter(class string, next uint64) int {
	if i := fs.of(class); i >= 0 {
		return i
	}
	name := strings.Clone(FlowOf(class))
	if len(*fs) >= maxFlows {
		name = OtherFlow
	}
	*fs = append(*fs, flow{name: name, watermark: next})
	return len(*fs) - 1
}

// low returns the number below which all records are settled but for held and dead, next
// at most; high the one from which none is.
func (fs flows) low(next uint64) uint64 {
	for i := range fs {
		if fs[i].pending > 0 {
			next = min(next, fs[i].watermark)
		}
	}
	return next
}

func (fs flows) high() (high uint64) {
	for i := range fs {
		high = max(high, fs[i].watermark)
	}
	return high
}

func (fs flows) pending() (n uint64) {
	for i := range fs {
		n += fs[i].pending
	}
	return n
}

func (fs flows) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(fs)))
	for _, f := range fs {
		b = appendString(b, f.name)
		b = binary.AppendUvarint(b, f.watermark)
		b = binary.AppendUvarint(b, f.pending)
	}
	return b
}

func (fs *flows) decode(d *decoder) {
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		*fs = append(*fs, flow{name: d.string(), watermark: d.uvarint(), pending: d.uvarint()})
	}
}

// flowsOf makes the flows of a segment that counts classes and has one watermark for all,
// as states of version 1 do.
func flowsOf(classes tally, watermark, pending uint64) (fs flows) {
	if len(classes) >= maxClasses { // the rest is counted as one, of several flows
		return flows{{name: OtherFlow, watermark: watermark, pending: pending}}
	}
	for _, c := range classes {
		i := fs.enter(c.class, watermark)
		fs[i].pending += c.pending
	}
	return fs
}
