// Package alertstest tests alerts.yml of package queueprom with Prometheus's own parser and
// engine. It is a module of its own, so that who uses queueprom does not inherit those. There
// is nothing here to import.
package alertstest
