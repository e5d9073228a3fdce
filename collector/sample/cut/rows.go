//go:build linux && (amd64 || arm64)

package main

import "fmt"

// A row is a program of the matrix. Its commands are run by sh with the fixtures in
// $D, the seconds in $S and an own directory as $T, which is the working directory.
type row struct {
	name  string
	needs []string // commands and files; a row without one of them is left out
	build string   // "" if there is nothing to build
	run   string
	// chain are the functions that a sample with any of them has in this order, root
	// first. Those between are not looked at. Functions that are marked with ? are not
	// needed. Without a chain nothing is known of the names.
	chain []string
}

// The chains of most fixtures.
var (
	burned     = []string{"main", "work", "turn", "burn"}
	burnedGo   = []string{"main.main", "main.work", "main.turn", "main.burn", "?main.mix"}
	burnedRust = []string{"work", "checkout", "sum", "?price", "burn"}
	burnedPy   = []string{"<module>", "work", "turn", "burn"}
	burnedJS   = []string{"(anonymous)", "work", "turn", "burn"}
	burnedJava = []string{"Burn.work", "Burn.turn", "?Burn.lambda$turn$0", "Burn.burn"}
)

const (
	goBuild   = `cp $D/golang/burn.go . && CGO_ENABLED=0 go build `
	rustBuild = `rustc -O -C force-frame-pointers=no `
	jdk17     = "/usr/lib/jvm/java-17-openjdk-amd64"
	jdk25     = "/usr/lib/jvm/temurin-25-jdk-amd64"
)

// matrix returns the rows; pythons has interpreters, each named by its version.
func matrix(pythons string) []row {
	rows := []row{
		{name: "Go", needs: []string{"go"}, build: goBuild + `burn.go`, run: `./burn $S`, chain: burnedGo},
		{name: "Go, stripped", needs: []string{"go"}, build: goBuild + `-ldflags='-s -w' burn.go`, run: `./burn $S`, chain: burnedGo},
		{name: "Go, inlined by PGO", needs: []string{"go"}, build: goBuild + `burn.go && CPUPROFILE=default.pgo ./burn 2 && CGO_ENABLED=0 go build -pgo=default.pgo burn.go`,
			run: `./burn $S`, chain: burnedGo},
		{name: "Go, 200 nested calls", needs: []string{"go"}, build: goBuild + `burn.go`, run: `./burn $S 200`,
			chain: nested("main.main", "main.nest", 201, burnedGo[1:])},
		{name: "C", needs: []string{"gcc"}, build: `gcc -O2 -fomit-frame-pointer $D/native/burn.c -o burn`, run: `./burn $S`, chain: burned},
		{name: "C, 100 nested calls", needs: []string{"gcc"}, build: `gcc -O2 -fomit-frame-pointer -fno-optimize-sibling-calls -fno-inline $D/native/nest.c -o nest`, run: `./nest $S 100`,
			chain: nested("main", "nest", 101, burned[1:])},
		{name: "C, 400 nested calls", needs: []string{"gcc"}, build: `gcc -O2 -fomit-frame-pointer -fno-optimize-sibling-calls -fno-inline $D/native/nest.c -o nest`, run: `./nest $S 400`,
			chain: nested("main", "nest", 401, burned[1:])},
		{name: "C, stripped, separate debug file", needs: []string{"gcc", "objcopy"},
			build: `gcc -O2 -g -fomit-frame-pointer $D/native/burn.c -o burn && objcopy --only-keep-debug burn burn.debug && strip burn && objcopy --add-gnu-debuglink=burn.debug burn`,
			run:   `./burn $S`, chain: burned},
		{name: "C++", needs: []string{"g++"}, build: `g++ -O2 -fomit-frame-pointer $D/native/burn.cc -o burn`, run: `./burn $S`,
			chain: []string{"main", "shop::work", "shop::checkout", "shop::sum", "shop::Book::price", "burn"}},
		{name: "Rust", needs: []string{"rustc"}, build: rustBuild + `$D/native/burn.rs -o burn`, run: `./burn $S`, chain: burnedRust},
		{name: "Rust, stripped, separate debug file", needs: []string{"rustc", "objcopy"},
			build: rustBuild + `-g $D/native/burn.rs -o burn && objcopy --only-keep-debug burn burn.debug && strip burn && objcopy --add-gnu-debuglink=burn.debug burn`,
			run:   `./burn $S`, chain: burnedRust},
		{name: "Rust, LTO", needs: []string{"rustc"}, build: rustBuild + `-C lto=fat -C codegen-units=1 -C panic=abort $D/native/burn.rs -o burn`, run: `./burn $S`, chain: burnedRust},
	}
	for _, v := range []string{"3.8", "3.9", "3.10", "3.11", "3.12", "3.13"} {
		rows = append(rows, pythonRows(pythons, v)...)
	}
	rows = append(rows,
		row{name: "CPython of Debian, 200 nested calls", needs: []string{"/usr/bin/python3"}, run: `/usr/bin/python3 $D/script/burn.py $S 200`,
			chain: nested("<module>", "nest", 201, burnedPy[1:])},
		row{name: "CPython of Debian", needs: []string{"/usr/bin/python3"}, run: `/usr/bin/python3 $D/script/burn.py $S`, chain: burnedPy},
		row{name: "Node.js", needs: []string{"node"}, run: `node $D/script/burn.js $S`, chain: burnedJS},
		row{name: "Node.js, addon that calls back", needs: []string{"node", "gcc", "/usr/include/node/node_api.h"},
			build: `gcc -O2 -shared -fPIC -I/usr/include/node $D/native/node.c -o native.node`, run: `node $D/script/burn.js $S $T/native.node`,
			chain: []string{"(anonymous)", "work", "native_each", "turn", "burn"}},
		jvmRow("JVM 17, interpreted", jdk17, "-Xint", "plain"),
		jvmRow("JVM 17, C1", jdk17, "-XX:TieredStopAtLevel=1", "plain"),
		jvmRow("JVM 17, C2", jdk17, "-XX:-TieredCompilation", "plain"),
		jvmRow("JVM 17, lambdas", jdk17, "", "lambda"),
		jvmRow("JVM 25, interpreted", jdk25, "-Xint", "plain"),
		jvmRow("JVM 25, C1", jdk25, "-XX:TieredStopAtLevel=1", "plain"),
		jvmRow("JVM 25, C2", jdk25, "-XX:-TieredCompilation", "plain"),
		jvmRow("JVM 25, lambdas", jdk25, "", "lambda"),
		nativeJVM("JVM 17, native method that calls back", jdk17),
		nativeJVM("JVM 25, native method that calls back", jdk25),
		nestedJVM("JVM 17, interpreted, 200 nested calls", jdk17, "-Xint"),
		nestedJVM("JVM 17, C1, 200 nested calls", jdk17, "-XX:TieredStopAtLevel=1"),
		virtualJVM("JVM 25, virtual threads", "run"),
		virtualJVM("JVM 25, virtual threads that yield", "yield"),
		row{name: "Ruby", needs: []string{"ruby"}, run: `ruby $D/script/burn.rb $S`, chain: []string{"<main>", "work", "turn", "turn", "burn"}},
		row{name: "PHP", needs: []string{"php"}, run: `php $D/script/burn.php $S`, chain: []string{"work", "turn", "{closure}", "burn"}},
		row{name: "PHP, JIT", needs: []string{"php"}, run: `php -d opcache.enable_cli=1 -d opcache.jit=tracing -d opcache.jit_buffer_size=64M $D/script/burn.php $S`,
			chain: []string{"work", "turn", "{closure}", "burn"}},
		row{name: "Perl, methods", needs: []string{"perl"}, run: `perl $D/script/burn.pl $S methods`, chain: []string{"work", "turn", "burn"}},
		row{name: "Perl, functions", needs: []string{"perl"}, run: `perl $D/script/burn.pl $S`, chain: []string{"work", "turn", "burn"}},
		row{name: "shell pipeline", needs: []string{"sort", "awk"},
			run: `end=$(($(date +%s) + S)); while [ $(date +%s) -lt $end ]; do seq 1 300000 | sort -r | awk '{ s += $1 } END { print s }' | md5sum; done`},
		row{name: "C, own mount, PID and cgroup namespace", needs: []string{"gcc", "unshare"}, build: `gcc -O2 -fomit-frame-pointer $D/native/burn.c -o burn`,
			run: `unshare -m -p -C --fork --mount-proc sh -c 'mount -t tmpfs none /mnt && cp burn /mnt && rm burn && /mnt/burn $S'`, chain: burned},
		row{name: "CPython, own namespaces", needs: []string{"/usr/bin/python3", "unshare"},
			run: `unshare -m -p -C --fork --mount-proc /usr/bin/python3 $D/script/burn.py $S`, chain: burnedPy},
		row{name: "JVM 17, own namespaces", needs: []string{jdk17 + "/bin/javac", "unshare"}, build: jdk17 + `/bin/javac -d . $D/java/Burn.java`,
			run: `unshare -m -p -C --fork --mount-proc ` + jdk17 + `/bin/java -cp . Burn $S plain`, chain: burnedJava},
		row{name: "C, 300 ms each", needs: []string{"gcc"}, build: `gcc -O2 -fomit-frame-pointer $D/native/burn.c -o burn`,
			run: `for i in $(seq $((S * 3))); do ./burn 0.3; done`, chain: burned},
		row{name: "Go, 300 ms each", needs: []string{"go"}, build: goBuild + `burn.go`, run: `for i in $(seq $((S * 3))); do ./burn 0.3; done`, chain: burnedGo},
		row{name: "CPython, 300 ms each", needs: []string{"/usr/bin/python3"}, run: `for i in $(seq $((S * 3))); do /usr/bin/python3 $D/script/burn.py 0.3; done`, chain: burnedPy},
		row{name: "C, renames another file over itself", needs: []string{"gcc"}, build: `gcc -O2 -fomit-frame-pointer $D/native/burn.c -o burn && cp $(which true) other`,
			run: `./burn $S other`, chain: burned},
		row{name: "C, rebuilt while it runs", needs: []string{"gcc"}, build: `gcc -O2 -fomit-frame-pointer $D/native/burn.c -o burn`,
			run: `./burn $S & sleep 1; rm burn; gcc -O0 -pg $D/native/nest.c -o burn; wait`, chain: burned},
		row{name: "C, deleted while it runs", needs: []string{"gcc"}, build: `gcc -O2 -fomit-frame-pointer $D/native/burn.c -o burn`,
			run: `./burn $S & rm burn; wait`, chain: burned},
		row{name: "C, opens a library later", needs: []string{"gcc"},
			build: `gcc -O2 -fomit-frame-pointer -fno-inline $D/native/later.c -o later -ldl && gcc -O2 -fomit-frame-pointer -shared -fPIC $D/native/plugin.c -o plugin.so`,
			run:   `./later $S $T/plugin.so`, chain: []string{"main", "?early", "?late", "?plugin_each", "?one", "burn"}},
	)
	return rows
}

// nested returns a chain with depth calls of one function.
func nested(root, function string, depth int, rest []string) []string {
	chain := []string{root}
	for range depth {
		chain = append(chain, function)
	}
	return append(chain, rest...)
}

// pythonRows are those of one version of CPython.
func pythonRows(dir, version string) []row {
	python := fmt.Sprintf("$(ls -d %s/%s*/bin/python3)", dir, version)
	needs := []string{fmt.Sprintf("%s/%s*/bin/python3", dir, version)}
	return []row{
		{name: "CPython " + version, needs: needs, run: python + ` $D/script/burn.py $S`, chain: burnedPy},
		{name: "CPython " + version + ", extension that calls back", needs: append(needs, "gcc"),
			build: `gcc -O2 -shared -fPIC -I$(ls -d ` + dir + `/` + version + `*/include/python*) $D/native/python.c -o native.so`,
			run:   `PYTHONPATH=$T ` + python + ` $D/script/burn.py $S`, chain: []string{"<module>", "work", "native_each", "turn", "burn"}},
	}
}

func jvmRow(name, home, option, how string) row {
	return row{name: name, needs: []string{home + "/bin/javac"}, build: home + `/bin/javac -d . $D/java/Burn.java`,
		run: home + `/bin/java ` + option + ` -cp . Burn $S ` + how, chain: burnedJava}
}

func nestedJVM(name, home, option string) row {
	r := jvmRow(name, home, option, "plain 200")
	r.chain = nested("Burn.lambda$main$1", "Burn.nest", 201, burnedJava)
	return r
}

func virtualJVM(name, how string) row {
	return row{name: name, needs: []string{jdk25 + "/bin/javac"}, build: jdk25 + `/bin/javac -d . $D/java/Virtual.java`,
		run: jdk25 + `/bin/java -cp . Virtual $S ` + how, chain: []string{"jdk.internal.vm.Continuation.run", "Virtual.lambda$main$0", "Virtual.work", "Virtual.turn", "Virtual.burn"}}
}

func nativeJVM(name, home string) row {
	r := jvmRow(name, home, "", "native $T/native.so")
	r.build += ` && gcc -O2 -shared -fPIC -I` + home + `/include -I` + home + `/include/linux $D/native/java.c -o native.so`
	r.needs = append(r.needs, "gcc")
	r.chain = []string{"Burn.work", "Burn.turn", "Java_Burn_nativeEach", "Burn.burn"}
	return r
}
