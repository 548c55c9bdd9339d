package queue

// death is why a job is a dead letter: its kind is for counting, its text for people. The
// zero death is none.
type death struct {
	kind deathKind
	text string
}

// deathKind is one of a few kinds of reasons.
type deathKind uint8

const (
	alive        deathKind = iota
	undecodable            // the record cannot be decoded
	expired                // it waited longer than its MaxSpoolAge
	pastDeadline           // its deadline passed in the spool
	invalid                // asynq refuses it
	refusedDead            // Redis refuses it, for example for its size
	failing                // the script fails for this job, and not for others of its queue
	idTaken                // another task has its id
	unknownReply           // a script answered something that this package does not know

	deathKinds // how many there are
)

// String returns the name of the kind in Stats.DeadBy.
func (k deathKind) String() string {
	switch k {
	case undecodable:
		return "undecodable"
	case expired:
		return "expired"
	case pastDeadline:
		return "deadline"
	case invalid:
		return "invalid"
	case refusedDead:
		return "refused"
	case failing:
		return "failing"
	case idTaken:
		return "id_taken"
	case unknownReply:
		return "unknown_reply"
	case alive, deathKinds:
	}
	return "none"
}
