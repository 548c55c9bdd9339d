package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxRESP is the longest string that Redis takes (proto-max-bulk-len), and more
// elements than it takes.
const maxRESP = 512 << 20

// readRequest reads one command as the client sent it, with its name in upper
// case. The name is empty for a blank line, which Redis does not answer.
func readRequest(r *bufio.Reader) (raw []byte, name string, err error) {
	first, err := r.Peek(1)
	if err != nil {
		return nil, "", err
	}
	if first[0] != '*' {
		raw, err = r.ReadBytes('\n') // an inline command
		if words := bytes.Fields(raw); len(words) > 0 {
			name = strings.ToUpper(string(words[0]))
		}
		return raw, name, err
	}
	if raw, err = readValue(r, nil); err != nil {
		return nil, "", err
	}
	if parts := bytes.SplitN(raw, []byte("\r\n"), 4); len(parts) == 4 { // *n, $n, name, the rest
		name = strings.ToUpper(string(parts[2]))
	}
	return raw, name, nil
}

// readValue appends one RESP2 or RESP3 value, with all that is nested in it, to raw.
func readValue(r *bufio.Reader, raw []byte) ([]byte, error) {
	start := len(raw)
	for {
		part, err := r.ReadSlice('\n')
		raw = append(raw, part...)
		if err == nil {
			break
		}
		if err != bufio.ErrBufferFull { //nolint:errorlint // ReadSlice returns it as it is
			return nil, err
		}
	}
	line := bytes.TrimRight(raw[start:], "\r\n")
	if len(line) == 0 {
		return nil, errors.New("redistest: an empty line is not RESP")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', '-', ':', '_', '#', ',', '(':
		return raw, nil
	case '$', '=', '!', '*', '~', '>', '%', '|':
	default:
		return nil, fmt.Errorf("redistest: %q does not begin a RESP value", kind)
	}
	n, err := strconv.Atoi(string(rest))
	if err != nil || n > maxRESP {
		return nil, fmt.Errorf("redistest: %q is not the length of a RESP value", rest)
	}
	switch kind {
	case '$', '=', '!':
		return readBytes(r, raw, n)
	case '%':
		n *= 2
	case '|': // attributes come before the value that they belong to
		n = 2*n + 1
	}
	for range n {
		if raw, err = readValue(r, raw); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

// readBytes appends n bytes and their line end; n < 0 is null and has neither.
func readBytes(r *bufio.Reader, raw []byte, n int) ([]byte, error) {
	if n < 0 {
		return raw, nil
	}
	start := len(raw)
	raw = append(raw, make([]byte, n+2)...)
	_, err := io.ReadFull(r, raw[start:])
	return raw, err
}
