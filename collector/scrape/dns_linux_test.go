package scrape

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// Targets are found by SRV and A records. The resolver's configuration is a fixed file,
// so the test runs itself with another /etc/resolv.conf in a mount namespace, which needs
// root.
func TestDNSDiscovery(t *testing.T) {
	const inNamespace = "FLAMELINE_TEST_RESOLV_CONF"
	if testing.Short() {
		t.Skip("needs root, to mount a resolv.conf and to listen on port 53")
	}
	resolv := os.Getenv(inNamespace)
	if resolv == "" {
		require.Zero(t, os.Getuid(), "needs root, to mount a resolv.conf and to listen on port 53")
		resolv = filepath.Join(t.TempDir(), "resolv.conf")
		require.NoError(t, os.WriteFile(resolv, []byte("nameserver 127.0.0.53\n"), 0o644))
		cmd := exec.Command(os.Args[0], "-test.run=^TestDNSDiscovery$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"="+resolv)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "--- PASS: TestDNSDiscovery")
		return
	}
	require.NoError(t, syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	require.NoError(t, syscall.Mount(resolv, "/etc/resolv.conf", "", syscall.MS_BIND, ""))
	_, port, err := net.SplitHostPort(profiled(t))
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	conn, err := net.ListenPacket("udp", "127.0.0.53:53")
	require.NoError(t, err)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 1}
		switch header.Name + dns.TypeToString[header.Rrtype] {
		case "_pprof._tcp.shop.example.SRV":
			m.Answer = []dns.RR{&dns.SRV{Hdr: header, Port: uint16(number), Target: "localhost."}}
		case "shop.example.A":
			m.Answer = []dns.RR{&dns.A{Hdr: header, A: net.IPv4(127, 0, 0, 1)}}
		default:
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })

	a := newAppender()
	m := run(t, a, discovering(t, `
dns_sd_configs:
  - names: [_pprof._tcp.shop.example]
  - names: [shop.example]
    type: A
    port: `+port+`
relabel_configs:
  - {source_labels: [__meta_dns_name], target_label: name}
`))
	wantTargets(t, m, "127.0.0.1:"+port, "localhost:"+port)
	names := map[string]string{}
	for len(names) < 2 {
		p := a.next(t, "goroutine")
		names[p.Labels.Get("name")] = p.Labels.Get("instance")
	}
	require.Equal(t, map[string]string{"_pprof._tcp.shop.example": "localhost:" + port, "shop.example": "127.0.0.1:" + port}, names)
}
