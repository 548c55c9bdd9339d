package redistest

import (
	"errors"
	"fmt"
	"os"
)

func freeze(*os.Process) error { return fmt.Errorf("no SIGSTOP on Windows: %w", errors.ErrUnsupported) }

func thaw(*os.Process) error { return fmt.Errorf("no SIGCONT on Windows: %w", errors.ErrUnsupported) }
