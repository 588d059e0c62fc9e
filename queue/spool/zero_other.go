//go:build !linux

package spool

import "os"

func writeZeros(*os.File, int64) bool { return false }
