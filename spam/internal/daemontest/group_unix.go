//go:build unix

package daemontest

import (
	"os/exec"
	"syscall"
)

// alone gives cmd a process group, so that its children end with it.
func alone(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
