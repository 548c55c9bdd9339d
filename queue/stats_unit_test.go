package queue

import "testing"

func TestImbalance(t *testing.T) {
	tests := []struct {
		name              string
		st                Stats
		accepted, spooled int64
	}{
		{"nothing", Stats{}, 0, 0},
		{"all terms", Stats{
			Accepted: 5, Sent: 2, Spooled: 3, Adopted: 10, Retried: 20, Resent: 30,
			Replayed: 1, AlreadyThere: 2, Superseded: 3, Dead: 4, Removed: 5, Unreadable: 6, Pending: 42,
		}, 0, 0},
		{"accepted and nowhere", Stats{Accepted: 3, Sent: 1}, 2, 0},
		{"sent and not accepted", Stats{Sent: 1}, -1, 0},
		{"spooled and gone", Stats{Accepted: 3, Spooled: 3, Pending: 1}, 0, 2},
		{"more out than in", Stats{Accepted: 1, Spooled: 1, Replayed: 2}, 0, -1},
		{"maybe stored, and it was", Stats{MaybeStored: 2, Pending: 2}, 0, 0},
		{"maybe stored, and it was not", Stats{MaybeStored: 2}, 0, 0},
		{"more than that", Stats{MaybeStored: 2, Pending: 3}, 0, -1},
		{"maybe stored explains no loss", Stats{Accepted: 1, Spooled: 1, MaybeStored: 2}, 0, 1},
	}
	for _, test := range tests {
		if accepted, spooled := test.st.Imbalance(); accepted != test.accepted || spooled != test.spooled {
			t.Errorf("%s: %d and %d", test.name, accepted, spooled)
		}
	}
}
