package target

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const id = "3f4a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"

const uid = "1234abcd-0000-1111-2222-333344445555"

func TestServiceFromEnviron(t *testing.T) {
	for _, c := range []struct{ environ, want string }{
		{"", ""},
		{"PATH=/bin\x00OTEL_SERVICE_NAME=shop\x00HOME=/\x00", "shop"},
		{"OTEL_SERVICE_NAME= shop \x00", "shop"},
		{"OTEL_SERVICE_NAME=\x00OTEL_RESOURCE_ATTRIBUTES=service.name=cart\x00", "cart"},
		{"OTEL_RESOURCE_ATTRIBUTES=service.name=cart\x00OTEL_SERVICE_NAME=shop\x00", "shop"},
		{"OTEL_RESOURCE_ATTRIBUTES=a=b,service.name=my%20cart%2Cv2 ,c=d\x00", "my cart,v2"},
		{"OTEL_RESOURCE_ATTRIBUTES=service.name = spaced ;prop=1\x00", "spaced"},
		{"OTEL_RESOURCE_ATTRIBUTES=service.name=first,service.name=last\x00", "last"},
		{"OTEL_RESOURCE_ATTRIBUTES=service%2Ename=key\x00", "key"},
		{"OTEL_RESOURCE_ATTRIBUTES=service.name=bad%zz\x00", "bad%zz"},
		{"OTEL_RESOURCE_ATTRIBUTES=service.name\x00", ""},
		{"XOTEL_SERVICE_NAME=no\x00OTEL_SERVICE_NAMES=no\x00", ""},
	} {
		require.Equal(t, c.want, resourceFromEnviron([]byte(c.environ))[attrService], "%q", c.environ)
	}
}

func TestParseCgroup(t *testing.T) {
	for name, c := range map[string]struct {
		data      string
		container string // the innermost
		service   string
		pod       string
	}{
		"root":                           {"0::/\n", "", "", ""},
		"empty":                          {"", "", "", ""},
		"malformed":                      {"nonsense\n1:\n", "", "", ""},
		"docker v1":                      {"12:pids:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n0::/system.slice/containerd.service\n", id, "", ""},
		"docker v2":                      {"0::/system.slice/docker-" + id + ".scope\n", id, "", ""},
		"docker in docker":               {"0::/docker/" + strings.Repeat("a", 64) + "/docker/" + id + "\n", id, "", ""},
		"seen from within":               {"0::/../docker-" + id + ".scope\n", id, "", ""},
		"containerd k8s":                 {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1234abcd_0000_1111_2222_333344445555.slice/cri-containerd-" + id + ".scope\n", id, "", uid},
		"containerd cgroupfs":            {"11:cpu:/kubepods/besteffort/pod1234abcd-0000-1111-2222-333344445555/" + id + "\n", id, "", uid},
		"static pod":                     {"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0123456789abcdef0123456789abcdef.slice/cri-containerd-" + id + ".scope\n", id, "", "0123456789abcdef0123456789abcdef"},
		"guaranteed":                     {"0::/kubepods.slice/kubepods-pod1234abcd_0000_1111_2222_333344445555.slice/crio-" + id + ".scope\n", id, "", uid},
		"kind v2":                        {"0::/system.slice/docker-" + strings.Repeat("b", 64) + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod1234abcd_0000_1111_2222_333344445555.slice/cri-containerd-" + id + ".scope\n", id, "", uid},
		"kind's kubelet":                 {"0::/system.slice/docker-" + id + ".scope/kubelet.slice/kubelet.service\n", id, "kubelet", ""},
		"k3d v1":                         {"7:memory:/docker/" + strings.Repeat("b", 64) + "/kubepods/burstable/pod1234abcd-0000-1111-2222-333344445555/" + id + "\n", id, "", uid},
		"of the same pod":                {"0::/../cri-containerd-" + id + ".scope\n", id, "", ""},
		"seen from a pod":                {"0::/../../../kubepods-burstable.slice/kubepods-burstable-pod1234abcd_0000_1111_2222_333344445555.slice/cri-containerd-" + id + ".scope\n", id, "", uid},
		"docker in a pod":                {"0::/kubepods/pod1234abcd-0000-1111-2222-333344445555/" + strings.Repeat("c", 64) + "/docker/" + id + "\n", id, "", uid},
		"containerd's mismatch of a pod": {"0::/system.slice/containerd.service/kubepods-burstable-pod1234abcd_0000_1111_2222_333344445555.slice:cri-containerd:" + id + "\n", id, "", uid},
		"unit that looks like a pod":     {"0::/system.slice/pod1234.service\n", "", "pod1234", ""},
		"ended":                          {"0::/system.slice/docker-" + id + ".scope (deleted)\n", id, "", ""},
		"containerd mismatch":            {"0::/system.slice/containerd.service/kubepods-burstable-pod1234.slice:cri-containerd:" + id + "\n", id, "", ""},
		"crio":                           {"0::/kubepods.slice/kubepods-pod1.slice/crio-" + id + ".scope/container\n", id, "", ""},
		"crio monitor":                   {"0::/kubepods.slice/kubepods-pod1.slice/crio-conmon-" + id + ".scope\n", "", "", ""},
		"podman":                         {"0::/machine.slice/libpod-" + id + ".scope/container\n", id, "", ""},
		"podman rootless":                {"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope\n", id, "", ""},
		"podman v1":                      {"5:cpu:/libpod_parent/libpod-" + id + "\n", id, "", ""},
		"kind":                           {"0::/docker/" + strings.Repeat("b", 64) + "/kubelet/kubepods/pod1/" + id + "\n", id, "", ""},
		"ECS":                            {"9:cpu:/ecs/task/" + id + "\n", id, "", ""},
		"Fargate":                        {"9:cpu:/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-3456789012\n", "0123456789abcdef0123456789abcdef-3456789012", "", ""},
		"LXC":                            {"0::/lxc.payload.web1/system.slice/nginx.service\n", "web1", "nginx", ""},
		"unit":                           {"0::/system.slice/nginx.service\n", "", "nginx", ""},
		"unit v1":                        {"4:cpu:/\n1:name=systemd:/system.slice/cron.service\n0::/system.slice/cron.service\n", "", "cron", ""},
		"unit in container":              {"0::/machine.slice/libpod-" + id + ".scope/system.slice/httpd.service\n", id, "httpd", ""},
		"instance":                       {"0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n", "", "postgresql", ""},
		"escaped":                        {"0::/system.slice/my\\x2dshop.service\n", "", "my-shop", ""},
		"half escaped":                   {"0::/system.slice/a\\x2.service\n", "", "a\\x2", ""},
		"delegated":                      {"0::/system.slice/app.service/workers/1\n", "", "app", ""},
		"session":                        {"0::/user.slice/user-0.slice/session-3.scope\n", "", "", ""},
		"init":                           {"0::/init.scope\n", "", "", ""},
		"user manager":                   {"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "", "", ""},
		"user unit":                      {"0::/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service\n", "", "syncthing", ""},
		"desktop application":            {"0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4711.scope\n", "", "", ""},
		"container daemon":               {"0::/system.slice/docker.service\n", "", "docker", ""},
		"path with a colon":              {"0::/system.slice/a:b.service\n", "", "a:b", ""},
		"short hexadecimal":              {"0::/docker/abcdef\n", "", "", ""},
		"nothing but a suffix":           {"0::/.service\n", "", "", ""},
	} {
		got := parseCgroup([]byte(c.data))
		require.Equal(t, []string{c.container, c.service, c.pod}, []string{got.container(), got.service(), got.pod}, name)
	}
}

func TestProgram(t *testing.T) {
	for _, c := range []struct{ exe, cmdline, want string }{
		{"/usr/sbin/nginx", "nginx: worker process", "nginx"},
		{"/usr/local/bin/app (deleted)", "app", "app"},
		{"/memfd:runc (deleted)", "runc init", "runc"},
		{"", "/opt/x/server --port 1", "server"},
		{"", "", ""},
		{"/bin/busybox", "sh /etc/init.d/rcS", "rcS"},
		{"/bin/busybox", "httpd -f", "httpd"},

		{"/usr/bin/python3.11", "python3 /srv/shop/main.py --port 80", "main"},
		{"/usr/bin/python3.11", "python3 -m http.server 8000", "http.server"},
		{"/usr/bin/python3.11", "python3 -uBm http.server", "http.server"},
		{"/usr/bin/python3.11", "python3 -mhttp.server", "http.server"},
		{"/usr/bin/python3.11", "python3 -W ignore -X dev -u app.py", "app"},
		{"/usr/bin/python3.11", "python3 -Wignore -Xdev app.py", "app"},
		{"/usr/bin/python3.11", "python3 --check-hash-based-pycs never app.py", "app"},
		{"/usr/bin/python3.11", "python3 -c print(1) arg.py", "python3.11"},
		{"/usr/bin/python3.11", "python3 -Ic pass", "python3.11"},
		{"/usr/bin/python3.11", "python3", "python3.11"},
		{"/usr/bin/python3.11", "python3 -", "python3.11"},
		{"/usr/bin/python3.11", "/venv/bin/python /venv/bin/gunicorn app:app", "gunicorn"},
		{"/usr/bin/python3.11", "python3 /srv/shop/__main__.py", "shop"},
		{"/usr/bin/python3.11", "python3 ./manage.py runserver", "manage"},
		{"/opt/pypy/bin/pypy3.10", "pypy3 x.py", "x"},
		{"/usr/bin/python3.13t", "python3.13t /srv/shop/main.py", "main"},
		{"/usr/bin/python3.13t", "python3.13t -m http.server", "http.server"},
		{"/usr/bin/python3.14td", "python3.14td -X gil=0 job.py", "job"},
		{"/usr/bin/python3.13d", "python3.13d", "python3.13d"},

		{"/usr/bin/node", "node server.js", "server"},
		{"/usr/bin/node", "node --require /x/instrument.js --max-old-space-size=4096 /app/dist/server.mjs", "server"},
		{"/usr/bin/node", "node -r ts-node/register src/app.ts", "app"},
		{"/usr/bin/node", "node --inspect=0.0.0.0:9229 /srv/shop/index.js", "shop"},
		{"/usr/bin/node", "node index.js", "index"},
		{"/usr/bin/node", "node -e code()", "node"},
		{"/usr/bin/node", "node inspect app.js", "app"},
		{"/usr/bin/nodejs", "node /usr/bin/npm start", "npm"},

		{"/usr/lib/jvm/bin/java", "java -Xmx1g -Dx=y -jar /opt/order-service-1.4.2-SNAPSHOT.jar --spring", "order-service"},
		{"/usr/lib/jvm/bin/java", "java -jar app.jar", "app"},
		{"/usr/lib/jvm/bin/java", "java -cp /a.jar:/b.jar com.acme.Main arg", "com.acme.Main"},
		{"/usr/lib/jvm/bin/java", "java -classpath x -ea com.acme.Main", "com.acme.Main"},
		{"/usr/lib/jvm/bin/java", "java --add-opens java.base/java.lang=ALL-UNNAMED -XX:+UseG1GC Main", "Main"},
		{"/usr/lib/jvm/bin/java", "java --module-path mods -m com.acme.shop/com.acme.shop.Main", "com.acme.shop"},
		{"/usr/lib/jvm/bin/java", "java --module=com.acme.shop/com.acme.shop.Main", "com.acme.shop"},
		{"/usr/lib/jvm/bin/java", "java @args Main.java", "Main"},
		{"/usr/lib/jvm/bin/java", "java -version", "java"},
		{"/usr/lib/jvm/bin/java", "java -jar", "java"},

		{"/usr/bin/ruby3.1", "ruby -I lib -rbundler/setup bin/worker.rb", "worker"},
		{"/usr/bin/ruby3.1", "ruby -S puma", "puma"},
		{"/usr/bin/ruby3.1", "ruby -ne puts", "ruby3.1"},
		{"/usr/bin/perl", "perl -i -pe s/a/b/ file.pl", "perl"},
		{"/usr/bin/perl", "perl -w -Mstrict /usr/bin/ack.pl", "ack"},
		{"/usr/bin/perl", "perl -I /lib x.pl", "x"},
		{"/usr/bin/php8.2", "php artisan queue:work", "artisan"},
		{"/usr/bin/php8.2", "php -d memory_limit=1G -f cron.php", "cron"},
		{"/usr/bin/php8.2", "php -r echo", "php8.2"},
		{"/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm8.2"},
		{"/usr/bin/deno", "deno run --allow-net --config d.json main.ts", "main"},
		{"/usr/bin/deno", "deno eval 1", "deno"},
		{"/usr/bin/bun", "bun run dev", "dev"},
		{"/usr/bin/bun", "bun server.ts", "server"},
		{"/usr/bin/dotnet", "dotnet /app/My.Shop.dll", "My.Shop"},
		{"/usr/bin/dotnet", "dotnet exec --runtimeconfig x.json a.dll", "a"},
		{"/usr/bin/dotnet", "dotnet run", "dotnet"},
		{"/usr/bin/bash", "bash -euo pipefail /opt/backup.sh", "backup"},
		{"/usr/bin/bash", "/bin/bash /usr/local/bin/deploy now", "deploy"},
		{"/usr/bin/bash", "bash -c /opt/x.sh", "bash"},
		{"/usr/bin/bash", "-bash", "bash"},
		{"/usr/bin/bash", "bash /dev/fd/3", "bash"},
		{"/usr/bin/python3.11", "python3 /proc/self/fd/7", "python3.11"},
		{"/usr/bin/dash", "sh -xc true", "dash"},
		{"/usr/bin/bash", "bash -- script.sh", "script"},
		{"/usr/bin/bash", "bash --", "bash"},
	} {
		args := parseCmdline([]byte(strings.ReplaceAll(c.cmdline, " ", "\x00") + "\x00"))
		require.Equal(t, c.want, program(c.exe, args), "%s: %s", c.exe, c.cmdline)
	}
	// A process that has set its title has a single argument with spaces.
	require.Equal(t, "gunicorn", program("/usr/bin/python3.11", []string{"gunicorn: worker [shop]"}))
	require.Equal(t, "puma", program("/usr/bin/ruby3.1", []string{"puma 6.4.0 (tcp://0.0.0.0:80) [shop]"}))
	require.Equal(t, "shop-worker", program("/usr/bin/node", []string{"shop-worker"}))
	require.Equal(t, "bash", program("/usr/bin/bash", []string{"-bash"}))
	require.Equal(t, "python3.13t", program("/usr/bin/python3.13t", []string{"python3"}))
	require.Equal(t, "npm", program("/usr/bin/node", []string{"npm start"}))
	require.Equal(t, "python3", program("/usr/bin/python3", []string{"python3 something odd"}))
}

func TestParseStat(t *testing.T) {
	s, err := parseStat([]byte("4711 (a (b) c) S 1 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3 11 12 13 14\n"))
	require.NoError(t, err)
	require.Equal(t, stat{comm: "a (b) c", image: image{start: 98765, code: 11, stack: 13}}, s)
	s, err = parseStat([]byte("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 3 0 0"))
	require.NoError(t, err)
	require.True(t, s.kernel)
	for _, bad := range []string{"", "1", "1 (x", "1 )x(", "1 (x) S 1"} {
		_, err = parseStat([]byte(bad))
		require.ErrorIs(t, err, errMalformedStat, bad)
	}
}

func TestKernelThread(t *testing.T) {
	for comm, want := range map[string]string{
		"kworker/0:1-events": "kworker", "kworker/u8:2": "kworker", "ksoftirqd/3": "ksoftirqd",
		"kthreadd": "kthreadd", "irq/24-nvme0q1": "irq/24-nvme0q1", "jbd2/sda1-8": "jbd2", "": "",
	} {
		require.Equal(t, want, kernelThread(comm))
	}
}

func TestLabelValue(t *testing.T) {
	for in, want := range map[string]string{
		" a b ": "a b", "a\xffb": "a\uFFFDb", "a\x00b": "ab", "": "",
		strings.Repeat("x", 600):       strings.Repeat("x", 512),
		"x" + strings.Repeat("é", 300): "x" + strings.Repeat("é", 255),
	} {
		got := labelValue(in)
		require.Equal(t, want, got)
		require.True(t, utf8.ValidString(got))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("OTEL_RESOURCE_ATTRIBUTES=a=%41,service.name=x;y\x00OTEL_SERVICE_NAME=\x00"))
	f.Add([]byte("12:pids:/docker/" + id + "\n0::/system.slice/a@b\\x2d.service\n"))
	f.Add([]byte("python3\x00-W\x00ignore\x00-m\x00http.server\x00"))
	f.Add([]byte("java\x00--module=a/b\x00-jar\x00x-1.2.jar\x00"))
	f.Add([]byte("4711 (a) S 1 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3 11"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := parseCgroup(data)
		parseStat(data)
		args := parseCmdline(data)
		names := []string{c.container(), c.service(), c.pod, resourceFromEnviron(data)[attrService]}
		for lang := range languages {
			names = append(names, program("/usr/bin/"+lang, args))
		}
		for _, name := range names {
			if v := labelValue(name); !utf8.ValidString(v) || len(v) > maxLabelValue+utf8.UTFMax || strings.ContainsRune(v, 0) {
				t.Fatalf("%q is no label value", v)
			}
		}
	})
}
