// Package authmethod checks who logs in: it verifies what somebody presents to an
// auth method, as the method's configuration says, and finds out what the binding
// rules of the method give for it.
//
//	CheckMethod, CheckRule  before a method or rule is stored
//	Set.Verify              bearer token -> Identity: variables with values
//	Bind                    rules + Identity -> what the new token gets
//
// Promises. A signature is checked with an algorithm that the method allows and a
// key of that algorithm's kind; "none" and shared secrets are no algorithms here.
// Claims count only after the signature. Key sets are fetched with a deadline and a
// bound on their size, kept, and fetched again for an unknown key, but not more
// often than every few seconds: what a caller presents cannot make us call out at
// will. Presented tokens are neither logged nor part of an error.
//
// A Set may be used concurrently. It starts no goroutine. Which tokens come of a
// login, and where they live, is decided in forwarding/endpoint.
package authmethod
