// Package memstore is a [queue.Store] that keeps everything in memory: for tests, for demonstrations, and
// to be read first by whoever writes another store. Nothing survives the process, so it must
// not stand behind a server that answers 250 to the world.
//
//	RFC   section, feature                        here
//	5321  6.1 responsibility survives a crash     no: use package spool
package memstore
