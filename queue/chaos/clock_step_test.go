//go:build stepclock

package chaos_test

import "time"

func stepWall(seconds int64) { time.StepWall(seconds) }
