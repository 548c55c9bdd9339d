package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/jobspool/jobspool/spool/internal/pages"
)

const segmentSuffix = ".seg"

func segmentName(first uint64) string { return fmt.Sprintf("%016x%s", first, segmentSuffix) }

// firstOf is the inverse of segmentName.
func firstOf(path string) (first uint64, ok bool) {
	name := filepath.Base(path)
	_, err := fmt.Sscanf(name, "%016x"+segmentSuffix, &first)
	return first, err == nil && name == segmentName(first)
}

// checkPages returns an error for a file that bbolt must not open.
func checkPages(path string) error {
	return withPages(path, check)
}

func check(f *pages.File) error {
	err := f.Check()
	if err == nil {
		err = f.Stale()
	}
	if err == nil {
		err = f.Trees(bucketRecords, bucketTwins)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// withPages runs fn with a file that is read without bbolt and without a memory map.
func withPages(path string, fn func(*pages.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil {
		err = fn(pages.Open(f, fi.Size()))
	}
	return errors.Join(err, f.Close())
}

// listSegments returns the paths of the segments in an owner's directory, oldest
// first: the names are numbers of fixed width.
func listSegments(dir string) ([]string, error) {
	files, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, f := range files {
		if strings.HasSuffix(f.Name(), segmentSuffix) && !strings.HasPrefix(f.Name(), hiddenPrefix) {
			paths = append(paths, filepath.Join(dir, f.Name()))
		}
	}
	return paths, nil
}
