package redistest

import "sync"

// tailBytes is how much of redis-server's output is kept.
const tailBytes = 16 << 10

// tail is an io.Writer that keeps the last tailBytes written to it.
type tail struct {
	// mu guards buf: the process writes while a failed start reads.
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - tailBytes; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
