package target

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// parseCmdline splits /proc/PID/cmdline into arguments.
func parseCmdline(data []byte) []string {
	text := strings.TrimRight(string(data), "\x00")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\x00")
}

// program returns the name of what a process runs: for an interpreter the script,
// module, jar or class, else the executable. args[0] is used if exe is unknown.
func program(exe string, args []string) string {
	name := executableName(exe)
	if name == "busybox" || name == "" {
		if len(args) > 0 {
			name = executableName(strings.TrimPrefix(args[0], "-"))
		}
	}
	if name == "" {
		return ""
	}
	lang, ok := languages[family(name)]
	if !ok {
		return name
	}
	if len(args) == 1 {
		if title := processTitle(args[0], name); title != "" {
			return title
		}
	}
	if len(args) > 1 {
		if what := lang.program(args[1:]); what != "" {
			return what
		}
	}
	return name
}

// processTitle returns the program that a process has set as its title, such as gunicorn
// in "gunicorn: worker [app]", puma in "puma 6.4.0 (tcp://...)" or the whole of
// "shop-worker"; "" if arg is the name under which the interpreter was started.
func processTitle(arg, exe string) string {
	word, _, _ := strings.Cut(arg, " ")
	word = executableName(strings.TrimPrefix(strings.TrimSuffix(word, ":"), "-"))
	if word == exe || family(word) == family(exe) {
		return ""
	}
	return word
}

// variant matches the version of an interpreter and the letters for how it was built:
// python3.13t is free-threaded, python3.13d has assertions.
var variant = regexp.MustCompile(`[0-9][-0-9.]*(t|d|td)?$`)

// family returns the name of an interpreter without version: python3.11 is
// python.
func family(name string) string {
	name = strings.TrimRight(variant.ReplaceAllString(name, ""), "-.")
	if f, ok := aliases[name]; ok {
		return f
	}
	return name
}

var aliases = map[string]string{
	"pypy": "python", "nodejs": "node", "jruby": "ruby", "javaw": "java",
	"bash": "sh", "dash": "sh", "ash": "sh", "zsh": "sh", "ksh": "sh", "mksh": "sh",
	"luajit": "lua", "Rscript": "R",
}

// A language describes the command line of an interpreter.
type language struct {
	// values are options whose value is the next argument.
	values []string
	// code are options whose value is source code.
	code []string
	// names are options whose value is the program's name.
	names []string
	// short are one-letter options, which may be joined (-uBm MODULE).
	short letters
	// verbs are subcommands before the program.
	verbs []string
	// only, if set, is the suffix that the program must have.
	only string
}

// letters are one-letter options by what they take.
type letters struct {
	value  string // a value, joined or in the next argument
	joined string // an optional value, joined
	code   string // the program itself
	name   string // the name of the program
}

var languages = map[string]language{
	"python": {
		values: []string{"--check-hash-based-pycs"},
		short:  letters{value: "WX", code: "c", name: "m"},
	},
	"node": {
		values: []string{
			"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions",
			"--title", "--env-file", "--icu-data-dir", "--openssl-config", "--redirect-warnings",
			"--trace-event-categories", "--input-type", "--dns-result-order", "--unhandled-rejections",
			"--stack-trace-limit", "--watch-path", "--test-name-pattern", "--test-reporter",
		},
		code:  []string{"-e", "--eval", "-p", "--print", "-pe"},
		verbs: []string{"inspect"},
	},
	"java": {
		values: []string{
			"-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path",
			"--add-modules", "--add-exports", "--add-opens", "--add-reads", "--patch-module",
			"--limit-modules", "--enable-native-access", "--source",
		},
		names: []string{"-jar", "-m", "--module"},
	},
	"ruby": {
		values: []string{"--encoding", "--external-encoding", "--internal-encoding"},
		short:  letters{value: "ICEr", joined: "ixFKWT0", code: "e", name: "S"},
	},
	"perl":   {short: letters{value: "I", joined: "CDFMVimx0", code: "eE", name: "S"}},
	"php":    {short: letters{value: "dctzSBER", code: "r", name: "fF"}},
	"deno":   {values: []string{"-c", "--config", "--import-map", "--lock", "-L", "--log-level", "--cert", "--seed", "--location", "--port"}, code: []string{"eval", "repl"}, verbs: []string{"run", "serve", "test", "task"}},
	"bun":    {values: []string{"--cwd", "--preload", "-r", "--config", "-c", "--env-file", "--port"}, code: []string{"-e", "--eval", "-p", "--print"}, verbs: []string{"run", "test"}},
	"dotnet": {values: []string{"--runtimeconfig", "--depsfile", "--additionalprobingpath", "--fx-version", "--roll-forward", "--additional-deps"}, verbs: []string{"exec"}, only: ".dll"},
	"sh":     {values: []string{"--rcfile", "--init-file"}, short: letters{value: "oO", code: "cs"}},
	"lua":    {short: letters{value: "l", code: "ei"}},
	"R":      {names: []string{"-f"}, code: []string{"-e"}},
}

// program returns the program that an interpreter's arguments name, "" if they name none
// because the code is on the command line or on standard input.
func (l language) program(args []string) string {
	verbs := l.verbs
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			if len(args) == 0 {
				return ""
			}
			return l.name(args[0])
		case arg == "-" || slices.Contains(l.code, arg):
			return ""
		case slices.Contains(verbs, arg):
			verbs = nil
		case slices.Contains(l.names, arg):
			if len(args) == 0 {
				return ""
			}
			return l.name(args[0])
		case slices.Contains(l.values, arg):
			args = args[min(1, len(args)):]
		case len(arg) > 1 && arg[0] == '-' && arg[1] != '-' && l.short != letters{}:
			value, kind := l.short.split(arg[1:])
			if kind == takesCode {
				return ""
			}
			if (kind == takesValue || kind == takesName) && value == "" && len(args) > 0 {
				value, args = args[0], args[1:]
			}
			if kind == takesName {
				return l.name(value)
			}
		case arg != "" && (arg[0] == '-' || arg[0] == '@' || arg[0] == '+'):
			if name, value, ok := strings.Cut(arg, "="); ok && slices.Contains(l.names, name) {
				return l.name(value)
			}
		default:
			return l.name(arg)
		}
	}
	return ""
}

// What a one-letter option takes as its value.
const (
	takesNothing = iota
	takesValue
	takesJoined
	takesCode
	takesName
)

// split reads joined one-letter options up to the first that takes a value. It returns
// the kind of that value, and the part of it that is joined.
func (l letters) split(options string) (value string, takes int) {
	for i := range len(options) {
		for takes, set := range []string{takesValue: l.value, takesJoined: l.joined, takesCode: l.code, takesName: l.name} {
			if strings.IndexByte(set, options[i]) >= 0 {
				return options[i+1:], takes
			}
		}
	}
	return "", takesNothing
}

var (
	// extensions are removed from the names of programs.
	extensions = []string{
		".py", ".pyc", ".pyz", ".pyw", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx",
		".rb", ".ru", ".pl", ".php", ".phar", ".sh", ".bash", ".zsh", ".ksh", ".jar", ".war", ".java", ".dll", ".lua", ".R", ".r",
	}
	// version matches the version at the end of a jar's name: app-1.2.3-SNAPSHOT.
	version = regexp.MustCompile(`[-_]v?\d+(\.\d+)+([-.+_].*)?$`)
	// asDirectory are files that are called by their directory's name.
	asDirectory = map[string]bool{"__main__": true, "index": true}
)

// name returns the name of a script, jar, module or class.
func (l language) name(arg string) string {
	if l.only != "" && !strings.HasSuffix(arg, l.only) {
		return ""
	}
	// A descriptor, as in bash /dev/fd/3, has no useful name.
	if strings.HasPrefix(arg, "/dev/") || strings.HasPrefix(arg, "/proc/") {
		return ""
	}
	// arg may be a module with its main class, or a URL that deno runs.
	arg, _, _ = strings.Cut(arg, "?")
	if !strings.HasPrefix(arg, "/") && strings.Count(arg, "/") == 1 && len(l.names) > 0 && slices.Contains(l.names, "--module") && !strings.Contains(arg, ".jar") && !strings.HasPrefix(arg, "./") {
		arg, _, _ = strings.Cut(arg, "/")
	}
	name := path.Base(arg)
	for _, ext := range extensions {
		if base, ok := strings.CutSuffix(name, ext); ok && base != "" {
			name = base
			if ext == ".jar" || ext == ".war" {
				name = version.ReplaceAllString(name, "")
			}
			break
		}
	}
	if dir := path.Base(path.Dir(arg)); asDirectory[name] && dir != "." && dir != "/" {
		name = dir
	}
	if name == "." || name == "/" || name == ".." {
		return ""
	}
	return name
}
