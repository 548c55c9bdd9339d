//go:build unix && !linux

package redistest

import "syscall"

// sysProcAttr: out of the terminal's reach. There is no Pdeathsig here.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
