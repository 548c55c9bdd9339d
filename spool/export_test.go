package spool

// Encode, Decode and StartWriter let the black-box tests reach the codec and the
// group commit.
func (r Record) Encode() []byte { return r.encode() }

func Decode(b []byte) (Record, error) { return decodeRecord(b) }

type Writer struct{ w *writer }

func StartWriter(commit func([][]byte) error) Writer { return Writer{startWriter(commit)} }

func (w Writer) Append(records ...[]byte) error { return w.w.append(records) }
func (w Writer) Close()                         { w.w.close() }
