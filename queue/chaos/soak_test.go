package chaos_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jobspool/jobspool/spool"
)

// soakRate is how many jobs per second callers offer.
const soakRate = 2000

var soakFlag = flag.Duration("soak", 0, "how long TestSoak takes; 0: it is left out")

// TestSoak has faults by chance for long at 2,000 jobs per second, and looks whether a
// producer that lives through all of it grows.
func TestSoak(t *testing.T) {
	if *soakFlag == 0 {
		t.Skip("-soak says for how long")
	}
	s := shape{producers: 3, callers: 8, window: 2 * time.Minute, guard: time.Minute}
	s.pace = time.Duration(float64(s.producers*s.callers) * jobsPerCall / soakRate * float64(time.Second))
	w := newWorld(t, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.trouble(*soakFlag, 15*time.Second)
	}()
	survivor := w.everyone()[0]
	var samples []sample
	began := time.Now()
	before, _ := w.counts()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(*soakFlag / 60):
			s := w.sample(survivor)
			samples = append(samples, s)
			accepted, processed := w.counts()
			t.Logf("%8v %v, %d accepted, %d processed", time.Since(began).Round(time.Second), s, accepted, processed)
		}
	}
	accepted, processed := w.counts()
	rate := float64(accepted-before) / time.Since(began).Seconds()
	v := w.finish()
	v.check(t, allowed{wait: usualWait + 2*length()})
	t.Logf("%+v", v)
	t.Logf("%.0f jobs accepted per second of %d offered; workers were %d behind", rate, soakRate, accepted-processed)
	if accepted-processed > 30*soakRate {
		t.Log("workers are too slow here: the journal keeps what they have not done, for as long as Guard says, and is not judged")
		for i := range samples {
			samples[i].journal = 0
		}
	}
	for _, what := range grown(samples) {
		t.Error(what)
	}
}

// sample is what a producer takes up.
type sample struct {
	memory     int64 // resident bytes
	goroutines int64
	threads    int64
	files      int64
	disk       int64 // bytes of the files in SpoolDir, but for the journal
	journal    int64 // of those as well
}

func (s sample) String() string {
	return fmt.Sprintf("memory %d MiB, %d goroutines, %d threads, %d files open, disk %d kiB, journal %d kiB",
		s.memory>>20, s.goroutines, s.threads, s.files, s.disk>>10, s.journal>>10)
}

func (w *world) sample(c *child) (s sample) {
	w.Helper()
	w.must(json.Unmarshal(c.ask(w, orderCount).Data, &s.goroutines))
	proc := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	status, err := os.ReadFile(proc + "status")
	w.must(err)
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			s.memory = n << 10
		case "Threads":
			s.threads = n
		}
	}
	files, err := os.ReadDir(proc + "fd")
	w.must(err)
	s.files = int64(len(files))
	s.journal = filesIn(filepath.Join(w.dir, spool.JournalName))
	s.disk = filesIn(w.dir) - s.journal
	return s
}

// filesIn returns the bytes of all files in a directory and below it.
func filesIn(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it is gone by now
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

// grown says what the last half mostly has more of than the first. What an outage takes up for
// its time is no growth.
func grown(samples []sample) (complaints []string) {
	half := len(samples) / 2
	for name, of := range map[string]func(sample) int64{
		"memory": func(s sample) int64 { return s.memory - 32<<20 },
		// A caller has one, its call may have some more, as may each connection of go-redis.
		"goroutines": func(s sample) int64 { return s.goroutines - 64 },
		"threads":    func(s sample) int64 { return s.threads - 16 },
		"files":      func(s sample) int64 { return s.files - 32 },
		"disk":       func(s sample) int64 { return s.disk - 64<<20 },
		"journal":    func(s sample) int64 { return s.journal - 64<<20 },
	} {
		before, after := median(samples[:half], of), median(samples[half:], of)
		if after > 0 && after > before+before/4 && after > before {
			complaints = append(complaints, fmt.Sprintf("%s grows: mostly %d over the usual in the first half, %d in the second", name, before, after))
		}
	}
	return complaints
}

func median(samples []sample, of func(sample) int64) int64 {
	all := []int64{0}
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return max(all[len(all)/2], 0)
}

// TestGrown: each thing that a producer takes up is seen to grow, and none that is flat.
func TestGrown(t *testing.T) {
	for name, grow := range map[string]func(s *sample, n int64){
		"memory":     func(s *sample, n int64) { s.memory += n << 20 },
		"goroutines": func(s *sample, n int64) { s.goroutines += n },
		"threads":    func(s *sample, n int64) { s.threads += n },
		"files":      func(s *sample, n int64) { s.files += n },
		"disk":       func(s *sample, n int64) { s.disk += n << 20 },
		"journal":    func(s *sample, n int64) { s.journal += n << 20 },
		"nothing":    func(*sample, int64) {},
		"outages":    func(s *sample, n int64) { s.memory += n % 7 << 22 },
	} {
		var samples []sample
		for i := range int64(60) {
			s := sample{memory: 40 << 20, goroutines: 20, threads: 10, files: 20, disk: 60 << 20, journal: 60 << 20}
			grow(&s, 3*i)
			samples = append(samples, s)
		}
		got := grown(samples)
		if (name == "nothing" || name == "outages") && len(got) == 0 {
			continue
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], name+" grows") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
