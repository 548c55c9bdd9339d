// Package alerts tests alerts.yml, the alert rules for the metrics of package queueprom, with
// Prometheus's own parser and engine. It is a module of its own, so that who uses queueprom
// does not inherit those. There is nothing here to import.
package alerts
