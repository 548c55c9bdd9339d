package spool

import "strings"

func FlowOf(class string) string { f, _, _ := strings.Cut(class, "\x00"); return f }

type Reader struct {
	s    *Spool
	flow string
	done map[Position]bool
}

func (s *Spool) Reader(flow string) *Reader { return &Reader{s: s, flow: flow, done: map[Position]bool{}} }
func (r *Reader) Rewind()                   { r.done = map[Position]bool{} }
func (r *Reader) Read(count, size int) (out []Entry, err error) {
	entries, err := r.s.Read(count+len(r.done)+1000, 1<<30, func(c string) bool { return FlowOf(c) != r.flow })
	for _, e := range entries {
		if len(out) == count || size <= 0 {
			break
		}
		if !r.done[e.Position] {
			r.done[e.Position] = true
			out = append(out, e)
			size -= e.Position.size
		}
	}
	return out, err
}
func (s *Spool) Flows() map[string]int {
	m := map[string]int{}
	for c, st := range s.Stats().Classes {
		m[FlowOf(c)] += st.Pending
	}
	return m
}
func (s *Spool) PendingOf(flow string) int { return s.Flows()[flow] }
