module github.com/jobspool/jobspool

go 1.26.0

require (
	github.com/gofrs/flock v0.13.2
	go.etcd.io/bbolt v1.5.0
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

require golang.org/x/sys v0.49.0 // indirect
