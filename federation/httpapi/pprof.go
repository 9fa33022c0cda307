package httpapi

import "net/http/pprof"

// profile serves net/http/pprof, which enable_debug switches on.
func profile(c *call, name string) {
	switch name {
	case "":
		pprof.Index(c.w, c.r)
	case "cmdline":
		pprof.Cmdline(c.w, c.r)
	case "profile":
		pprof.Profile(c.w, c.r)
	case "symbol":
		pprof.Symbol(c.w, c.r)
	case "trace":
		pprof.Trace(c.w, c.r)
	default:
		pprof.Handler(name).ServeHTTP(c.w, c.r)
	}
}
