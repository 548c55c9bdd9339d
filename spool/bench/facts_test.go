package bench_test

import (
	"database/sql"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// goMod tells the versions of the peers: a test binary's build information does
// not list its modules.
//
//go:embed go.mod
var goMod string

// TestMain prints where and with what the benchmarks run, as configuration lines
// of the Go benchmark format: results and facts stay together.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" {
		printFacts()
	}
	os.Exit(m.Run())
}

func printFacts() {
	tmp, err := filepath.EvalSymlinks(os.TempDir())
	if err != nil {
		tmp = os.TempDir()
	}
	for _, f := range []struct{ key, value string }{
		{"date", time.Now().Format(time.RFC3339)},
		{"kernel", kernel()},
		{"cores", fmt.Sprint(runtime.NumCPU())},
		{"filesystem", fileSystem(tmp)},
		{"go", runtime.Version()},
		{"pebble", version("github.com/cockroachdb/pebble/v2")},
		{"dque", version("github.com/joncrlsn/dque")},
		{"sqlite", sqliteVersion() + ", go-sqlite3 " + version("github.com/mattn/go-sqlite3")},
		{"tidwall-wal", version("github.com/tidwall/wal")},
	} {
		fmt.Printf("%s: %s\n", f.key, f.value)
	}
}

// version is what go.mod requires of a module.
func version(module string) string {
	_, after, _ := strings.Cut(goMod, "\t"+module+" ")
	v, _, _ := strings.Cut(after, "\n")
	return v
}

func sqliteVersion() (v string) {
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	if err := db.QueryRow("SELECT sqlite_version()").Scan(&v); err != nil {
		return err.Error()
	}
	return v
}
