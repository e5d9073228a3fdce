package profile

// HeaderComplete is a header of requests for series. If it is "true", Flameline's
// server leaves out the points that may still grow, because profiles that cover a
// part of their step are on the way: they would look like dips. Other servers do not
// know it.
const HeaderComplete = "Flameline-Complete"
