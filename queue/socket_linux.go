package queue

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ownerCalls reports whether a process of this user, or of root, is at the other end.
func ownerCalls(conn net.Conn) bool {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	may := false
	err = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		may = err == nil && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
	})
	return may && err == nil
}

// pathOf is a short path of an open directory.
func pathOf(dir *os.File) (string, error) { return fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), nil }
