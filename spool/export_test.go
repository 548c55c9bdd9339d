package spool

// Encode, Decode and NewWriter let the black-box tests reach the codec and the
// group commit.
func (r Record) Encode() []byte { return r.encode() }

func Decode(b []byte) (Record, error) { return decodeRecord(b, 0) }

type Writer struct{ w *writer }

// NewWriter returns a writer whose commits are numbers of records.
func NewWriter(commit func(records int) error) Writer {
	return Writer{&writer{lane: newLane(-1), commit: func(e []encoded) error { return commit(len(e)) }}}
}

func (w Writer) Append(records ...[]byte) error {
	return w.w.append(make([]encoded, len(records)), len(records))
}
