//go:build !stepclock

package chaos_test

func stepWall(int64) {}
