package main

import (
	"errors"
	"fmt"
	"time"
)

// The defaults make a run of ten seconds.
const (
	demoJobs   = 5000
	demoRate   = 500 // per second
	demoOutage = 3 * time.Second
)

const (
	// demoAround is the time around the outage where the flags leave it open.
	demoAround = 7 * time.Second

	// demoMinBefore and demoMinAfter are the least time before and after the
	// outage: a Producer looks once a second whether Redis is back.
	demoMinBefore = 300 * time.Millisecond
	demoMinAfter  = 1200 * time.Millisecond

	demoMaxJobs   = 10_000_000 // their ids are kept in memory
	demoMaxRate   = 1_000_000
	demoMaxOutage = time.Hour
)

// demoOptions are the flags.
type demoOptions struct {
	jobs, rate       int
	jobsSet, rateSet bool // given by the user
	outage           time.Duration
	realRedis        bool
}

// demoPlan says what a run does and when.
type demoPlan struct {
	jobs      int
	length    time.Duration // from the first job until after the last
	outageAt  time.Duration
	outage    time.Duration
	realRedis bool
}

// plan returns what the flags ask for, or every complaint about them.
func (o demoOptions) plan() (demoPlan, error) {
	if err := o.validate(); err != nil {
		return demoPlan{}, err
	}
	p := demoPlan{jobs: o.jobs, length: o.outage + demoAround, outage: o.outage, realRedis: o.realRedis}
	switch {
	case o.jobsSet && o.rateSet:
		p.length = time.Duration(float64(o.jobs) / float64(o.rate) * float64(time.Second))
	case !o.jobsSet:
		p.jobs = int(float64(o.rate) * p.length.Seconds())
	}
	if p.jobs > demoMaxJobs {
		return demoPlan{}, usageError{fmt.Sprintf("--rate %d makes %d jobs of a run of %v; at most %d are possible: set --jobs", o.rate, p.jobs, p.length, demoMaxJobs)}
	}
	if least := o.outage + demoMinBefore + demoMinAfter; p.length < least {
		return demoPlan{}, usageError{fmt.Sprintf("--jobs %d at --rate %d are a run of %v, but --outage %v needs at least %v: "+
			"leave out --jobs or --rate to have it fit", o.jobs, o.rate, demoRound(p.length), o.outage, least)}
	}
	p.outageAt = min(p.length/3, p.length-p.outage-demoMinAfter)
	return p, nil
}

func (o demoOptions) validate() error {
	var errs []error
	if o.jobs < 1 || o.jobs > demoMaxJobs {
		errs = append(errs, fmt.Errorf("--jobs must be from 1 to %d, not %d", demoMaxJobs, o.jobs))
	}
	if o.rate < 1 || o.rate > demoMaxRate {
		errs = append(errs, fmt.Errorf("--rate must be from 1 to %d jobs per second, not %d", demoMaxRate, o.rate))
	}
	if o.outage <= 0 || o.outage > demoMaxOutage {
		errs = append(errs, fmt.Errorf("--outage must be more than 0 and at most %v, not %v", demoMaxOutage, o.outage))
	}
	if len(errs) > 0 {
		return usageError{errors.Join(errs...).Error()}
	}
	return nil
}

// due returns when job n of the run is to be enqueued, counted from its start.
func (p demoPlan) due(n int) time.Duration {
	return time.Duration(float64(n) / float64(p.jobs) * float64(p.length))
}

// rate returns jobs per second.
func (p demoPlan) rate() float64 { return float64(p.jobs) / p.length.Seconds() }
