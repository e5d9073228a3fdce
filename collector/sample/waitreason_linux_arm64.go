package sample

// oldSystemCalls are those that arm64 does not have: none.
var oldSystemCalls map[int32]reason
