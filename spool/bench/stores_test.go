package bench_test

import (
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/joncrlsn/dque"
	_ "github.com/mattn/go-sqlite3" // registers the driver
	"github.com/tidwall/wal"

	"github.com/jobspool/jobspool/spool"
)

// store keeps records durably.
type store interface {
	// append returns nil when rec is durable. The store may keep rec: nobody
	// changes it. Safe for concurrent use.
	append(rec []byte) error
	close() error
}

// stores are spool and its peers. Each opens in an empty directory.
var stores = []struct {
	name string
	open func(dir string) (store, error)
}{
	{"fdatasync", openFile},
	{"pebble", openPebble},
	{"dque", openDque},
	{"sqlite", openSQLite},
	{"tidwall-wal", openWAL},
	{"spool", openSpool},
}

// The layout of a record as all stores get it: what a job has in text, then noise.
const (
	idBytes     = len("00000000-0000-4000-8000-000000000000")
	class       = "default\x00email:send"
	recordBytes = 300
)

// records is the pool that appends draw from, so that making a record costs
// nothing and no two neighbours are alike.
var records = makeRecords(8192)

// record returns the nth record to append.
func record(n int) []byte { return records[n%len(records)] }

func makeRecords(n int) [][]byte {
	noise := rand.NewChaCha8([32]byte{'s', 'p', 'o', 'o', 'l'})
	recs := make([][]byte, n)
	for i := range recs {
		rec := make([]byte, recordBytes)
		_, _ = noise.Read(rec) // never fails, see its documentation
		copy(rec, newID(noise))
		copy(rec[idBytes:], class)
		recs[i] = rec
	}
	return recs
}

// newID is a random UUID.
func newID(noise *rand.ChaCha8) string {
	var b [16]byte
	_, _ = noise.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// file is the physical limit for one caller: the same bytes at the end of one
// growing file, and fdatasync.
type file struct {
	mu sync.Mutex // held over write and sync
	f  *os.File
}

func openFile(dir string) (store, error) {
	f, err := os.Create(filepath.Join(dir, "file"))
	return &file{f: f}, err
}

func (s *file) append(rec []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.f.Write(rec); err != nil {
		return err
	}
	return datasync(s.f)
}

func (s *file) close() error { return s.f.Close() }

// pebbleDB uses Pebble as it is by default. pebble.Sync returns after fdatasync of
// its log, which all callers that wait share; WALMinSyncInterval, which delays
// that to gather more of them, is 0 by default.
type pebbleDB struct {
	db  *pebble.DB
	key atomic.Uint64
}

func openPebble(dir string) (store, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
	return &pebbleDB{db: db}, err
}

func (s *pebbleDB) append(rec []byte) error {
	key := binary.BigEndian.AppendUint64(nil, s.key.Add(1))
	return s.db.Set(key, rec, pebble.Sync)
}

func (s *pebbleDB) close() error { return s.db.Close() }

// silent keeps Pebble from printing each log file it finds between the results.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// dqueItem is a struct because dque takes no bare slice.
type dqueItem struct{ Rec []byte }

// dqueQueue is dque in its safe mode, the default: fsync in each Enqueue, which
// holds a lock meanwhile. Segments are large, for making one is not what we time.
type dqueQueue struct{ q *dque.DQue }

func openDque(dir string) (store, error) {
	q, err := dque.New("queue", dir, 100_000, func() any { return &dqueItem{} })
	return dqueQueue{q}, err
}

func (s dqueQueue) append(rec []byte) error { return s.q.Enqueue(&dqueItem{rec}) }
func (s dqueQueue) close() error            { return s.q.Close() }

// sqliteDB inserts one row per append, each its own transaction, by a prepared
// statement. synchronous=FULL fsyncs the log on every commit; go-sqlite3 is
// compiled with NORMAL as the default in WAL mode, which does not.
//
// One connection is fastest: SQLite has one writer at a time, and database/sql
// queues the callers better than the busy handler, which sleeps. With 64 callers
// 2 connections reached 60 % of that and 8 connections 20 %. A mutex before the
// pool, locking_mode=EXCLUSIVE, the driver without database/sql and fdatasync
// (-DHAVE_FDATASYNC) made no difference beyond the noise.
type sqliteDB struct {
	db     *sql.DB
	insert *sql.Stmt
}

func openSQLite(dir string) (store, error) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "db")+"?_journal_mode=WAL&_synchronous=FULL")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE record (seq INTEGER PRIMARY KEY, rec BLOB NOT NULL)"); err != nil {
		return nil, err
	}
	insert, err := db.Prepare("INSERT INTO record (rec) VALUES (?)")
	return &sqliteDB{db: db, insert: insert}, err
}

func (s *sqliteDB) append(rec []byte) error {
	_, err := s.insert.Exec(rec)
	return err
}

func (s *sqliteDB) close() error { return s.db.Close() }

// walLog is tidwall/wal as it is by default: fsync in each Write. The caller
// numbers the entries without a gap, hence the mutex.
type walLog struct {
	mu   sync.Mutex // held over number and Write
	last uint64
	log  *wal.Log
}

func openWAL(dir string) (store, error) {
	log, err := wal.Open(dir, nil)
	return &walLog{log: log}, err
}

func (s *walLog) append(rec []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.log.Write(s.last+1, rec); err != nil {
		return err
	}
	s.last++
	return nil
}

func (s *walLog) close() error { return s.log.Close() }

// spoolStore appends one record per call.
type spoolStore struct{ *spool.Spool }

func openSpool(dir string) (store, error) {
	s, err := spool.Open(spoolOptions(dir))
	return spoolStore{s}, err
}

func (s spoolStore) append(rec []byte) error { return s.Append(spoolRecord(rec)) }
func (s spoolStore) close() error            { return s.Close() }

// spoolRecord is rec as a job: 36 bytes of ID, 18 of Class and 246 of Data.
func spoolRecord(rec []byte) spool.Record {
	return spool.Record{
		ID:    string(rec[:idBytes]),
		Class: class,
		At:    time.Now(),
		Data:  rec[idBytes+len(class):],
	}
}

// spoolOptions are the defaults, but for the bounds on what the disk holds: a
// benchmark fills it as far as it must.
func spoolOptions(dir string) spool.Options {
	return spool.Options{Dir: dir, MaxBytes: -1, MinFreeBytes: -1}
}
