package profile

// HeaderComplete is a request header for series. If it is "true", Flameline's server
// leaves out points that may still grow because profiles of their step have not arrived
// yet: they would look like dips. Other servers ignore the header.
const HeaderComplete = "Flameline-Complete"
