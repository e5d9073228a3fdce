package view

import (
	"maps"
	"slices"
	"strings"
)

// Sets are the sets of functions that Options.Fold names: regular expressions by kind. A
// function is in a set if one of them matches. Java's names have dots or, from
// async-profiler, slashes.
var Sets = map[string]map[Kind]string{
	"go-runtime": {
		Function: `^(runtime|internal/runtime/\w+|runtime/internal/\w+)\.`,
	},
	"jvm-internals": {
		Function: `^(jdk|sun|com[./]sun)[./]|^java[./]lang[./](invoke|reflect)[./]|^java[./]lang[./](Virtual)?Thread(\$\w+)?\.run|` +
			`^java[./]util[./]concurrent[./](ThreadPoolExecutor|FutureTask|Executors|ForkJoin\w+)|` +
			`^(JavaCalls|JavaThread|Thread|CompileBroker|C2Compiler|Compile|Compilation|Phase\w+|G1\w+|WorkerThread|GangWorker|InterpreterRuntime|OptoRuntime|SharedRuntime)::`,
		Binary: `(^|/)libjvm\.so`,
	},
	"spring":   {Function: `^org[./]springframework[./]`},
	"netty":    {Function: `^(io|org[./]jboss|io[./]grpc)[./]netty[./]`},
	"tomcat":   {Function: `^org[./]apache[./](catalina|coyote|tomcat|jasper)[./]`},
	"rust-std": {Function: `^<?(std|core|alloc|tokio)::`},
	"python-stdlib": {
		File: `/python\d(\.\d+)?/[^/]+\.py$|/python\d(\.\d+)?/(asyncio|collections|concurrent|ctypes|email|encodings|html|http|importlib|json|logging|multiprocessing|re|sqlite3|unittest|urllib|wsgiref|xml|xmlrpc)/|^<frozen `,
	},
	"asyncio": {File: `/asyncio/[^/]+\.py$`},
	"node-internals": {
		Function: `^(v8|node|uv)::|^uv__?\w+$|^Builtins?[_:]`,
		File:     `^node:`,
	},
	"kernel": {Binary: `^(vmlinux|kernel|\[kernel.*)$`},
}

// setNames lists the sets for an error message.
func setNames() string { return strings.Join(slices.Sorted(maps.Keys(Sets)), ", ") }
