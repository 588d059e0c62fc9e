// Package bench measures the packages of the module beside other Go libraries that do the
// same work, in one run on one machine. It is a module of its own, so that those never enter
// the library's go.mod:
//
//	cd internal/bench && go test -bench . -benchmem
package bench
