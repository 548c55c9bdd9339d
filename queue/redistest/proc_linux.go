package redistest

import "syscall"

// sysProcAttr: out of the terminal's reach, and dead when we are.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
