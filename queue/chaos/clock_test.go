package chaos_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// steppable returns a test binary whose wall clock can be set, by orderStep, while the
// machine's goes on: one that is built with another time.Now.
var steppable = sync.OnceValues(func() (binary string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "chaos-clock")
	if err != nil {
		return "", err
	}
	steppableDir.Store(&dir)
	patched := strings.Replace(string(text), "sec, nsec, mono := runtimeNow()\n", "sec, nsec, mono := runtimeNow()\n\tsec += wallStep.Load()\n", 1)
	patched = strings.Replace(patched, "import (\n", "import (\n\t\"sync/atomic\"\n", 1)
	patched += "\nvar wallStep atomic.Int64\n\n// StepWall sets the wall clock forward, by seconds.\nfunc StepWall(by int64) { wallStep.Add(by) }\n"
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	index, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(changed, []byte(patched), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, index, 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "chaos.test")
	cmd := exec.Command("go", "test", "-c", "-tags", "stepclock", "-overlay", overlay, "-o", binary, ".")
	cmd.Stderr = os.Stderr
	return binary, cmd.Run()
})

// steppableDir is where steppable has made it; nil: it has not.
var steppableDir atomic.Pointer[string]

// removeSteppable removes what steppable has made.
func removeSteppable() {
	if dir := steppableDir.Load(); dir != nil {
		_ = os.RemoveAll(*dir)
	}
}

// orderStep sets a producer's clock, by the seconds behind it.
const orderStep = "step "

// stepBy carries out an order to step the clock.
func stepBy(order string) {
	if n, err := strconv.ParseInt(strings.TrimPrefix(order, orderStep), 10, 64); err == nil {
		before := time.Now()
		stepWall(n)
		if after := time.Now(); after.Round(0).Sub(before.Round(0)).Abs() < time.Duration(n).Abs()*time.Second/2 {
			say(report{Kind: reportTrouble, Text: "the clock did not step"})
		}
	}
}

// step sets the clock of all producers.
func (w *world) step(d time.Duration) { w.tell(orderStep + strconv.Itoa(int(d.Seconds()))) }

func clockFaults() []fault {
	if testing.Short() {
		return nil // the standard library is built anew
	}
	return []fault{{name: "wall clocks of producers step by hours, forth and back, in an outage", shape: shape{steppable: true}, do: func(w *world) {
		w.net.down()
		for _, d := range []time.Duration{3 * time.Hour, -5 * time.Hour, time.Hour} {
			w.hold(length() / 4)
			w.step(d)
		}
		w.hold(length() / 4)
		w.step(-2 * time.Hour)
		w.net.up()
		w.hold(length() / 4)
		w.step(3 * time.Hour) // right again
	}}}
}
