package sample

// A Requirement is something that sampling needs of the system. The error of Check
// says what is missing and what to do about it.
type Requirement struct {
	Name  string
	Check func() error
}

// A Runtime is an interpreter or virtual machine whose stacktraces the unwinder
// knows, from version Min to version Max; both belong to it. An empty Max is no bound.
type Runtime struct {
	Name, Min, Max string
}

// Runtimes are those of this version of the unwinder.
var Runtimes = []Runtime{
	{"CPython", "3.6", "3.14"},
	{"JVM", "7", ""},
	{"V8", "8.1", ""},
	{"Go", "1.13", "1.27"},
	{"Ruby", "2.5", "4.0"},
	{"PHP", "7.3", "8.5"},
	{"Perl", "5.28", "5.42"},
	{".NET", "6.0", "10.0"},
	{"Erlang/OTP", "27", "28"},
	{"LuaJIT", "", ""},
}

// RuntimeByName returns one of Runtimes, nil if there is none.
func RuntimeByName(name string) *Runtime {
	for i := range Runtimes {
		if Runtimes[i].Name == name {
			return &Runtimes[i]
		}
	}
	return nil
}
