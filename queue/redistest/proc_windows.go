package redistest

import "syscall"

// sysProcAttr: out of the console's reach. There is no Pdeathsig here.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
