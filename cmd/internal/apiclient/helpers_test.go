package apiclient

// helpers are what this test binary does instead of testing, when the variable
// APICLIENT_HELPER names one: programs of users that a test kills.
var helpers = map[string]func(){}
