// Package systemd speaks with the service manager that started this process:
// it takes the sockets that were passed, and tells how the service is. Where
// there is no such manager nothing is passed, and nothing is told.
package systemd
