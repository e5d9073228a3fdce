//go:build linux && (amd64 || arm64)

package sample

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An emulator runs a program for arm64 under qemu-user, one instruction at a
// time. It speaks GDB's remote protocol.
type emulator struct {
	conn net.Conn
	in   *bufio.Reader
}

// emulatorPatience is how long a stopped program may take to answer; it only ends
// a test that would hang.
const emulatorPatience = 2 * time.Minute

// startEmulator starts a program, which is stopped before its first instruction.
func startEmulator(t *testing.T, program string, env ...string) *emulator {
	t.Helper()
	qemu, err := exec.LookPath("qemu-aarch64")
	require.NoError(t, err, "the test runs programs for arm64: install Debian's package qemu-user")
	dir, err := os.MkdirTemp("", "gdb") // a socket's name must be short
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, qemu, "-g", socket, program)
	cmd.Env = append(os.Environ(), env...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("qemu-aarch64 has printed: %s", output.String())
		}
	})
	for deadline := time.Now().Add(emulatorPatience); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			e := &emulator{conn: conn, in: bufio.NewReader(conn)}
			require.NoError(t, conn.SetDeadline(deadline.Add(emulatorPatience)))
			return e
		}
		select {
		case <-ended:
			require.FailNow(t, "qemu-aarch64 has ended before its debugger connected", output.String())
		default:
			require.True(t, time.Now().Before(deadline), "qemu-aarch64 does not listen: %v", err)
		}
	}
}

// ask sends a request and returns the answer.
func (e *emulator) ask(request string) (string, error) {
	sum := byte(0)
	for _, c := range []byte(request) {
		sum += c
	}
	if _, err := fmt.Fprintf(e.conn, "$%s#%02x", request, sum); err != nil {
		return "", err
	}
	if _, err := e.in.ReadSlice('$'); err != nil { // after the acknowledgement
		return "", err
	}
	answer, err := e.in.ReadString('#')
	if err != nil {
		return "", err
	}
	if _, err := io.CopyN(io.Discard, e.in, 2); err != nil {
		return "", err
	}
	if _, err := e.conn.Write([]byte{'+'}); err != nil {
		return "", err
	}
	answer = strings.TrimSuffix(answer, "#")
	if answer == "" || strings.HasPrefix(answer, "E") || strings.HasPrefix(answer, "W") || strings.HasPrefix(answer, "X") {
		return "", fmt.Errorf("%s: the emulator answers %q", request, answer)
	}
	return answer, nil
}

// armRegisters are x0 to x30, the stack pointer and the program counter.
type armRegisters [33]uint64

// Numbers of registers.
const (
	armFP, armLR, armSP, armPC = 29, 30, 31, 32
)

// registers returns the registers of the thread that has stopped.
func (e *emulator) registers() (r armRegisters, err error) {
	answer, err := e.ask("g")
	if err != nil {
		return r, err
	}
	if len(answer) < 16*len(r) {
		return r, fmt.Errorf("the emulator gives registers of %d digits", len(answer))
	}
	for i := range r {
		if r[i], err = littleHex(answer[16*i : 16*i+16]); err != nil {
			return r, err
		}
	}
	return r, nil
}

// set sets a register.
func (e *emulator) set(register int, value uint64) error {
	answer, err := e.ask("g")
	if err != nil || len(answer) < 16*(register+1) {
		return fmt.Errorf("the emulator gives registers of %d digits: %w", len(answer), err)
	}
	digits := hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, value))
	_, err = e.ask("G" + answer[:16*register] + digits + answer[16*(register+1):])
	return err
}

// words returns two words of memory.
func (e *emulator) words(addr uint64) (a, b uint64, err error) {
	answer, err := e.ask(fmt.Sprintf("m%x,10", addr))
	if err != nil {
		return 0, 0, err
	}
	if len(answer) != 32 {
		return 0, 0, fmt.Errorf("the emulator gives memory of %d digits", len(answer))
	}
	if a, err = littleHex(answer[:16]); err != nil {
		return 0, 0, err
	}
	b, err = littleHex(answer[16:])
	return a, b, err
}

// runTo runs to an address.
func (e *emulator) runTo(addr uint64) error {
	for _, request := range []string{fmt.Sprintf("Z0,%x,4", addr), "c", fmt.Sprintf("z0,%x,4", addr)} {
		if _, err := e.ask(request); err != nil {
			return err
		}
	}
	return nil
}

// step executes one instruction.
func (e *emulator) step() error {
	_, err := e.ask("s")
	return err
}

// littleHex returns a number of eight bytes in the order of memory.
func littleHex(digits string) (uint64, error) {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 8 {
		return 0, fmt.Errorf("the emulator gives the number %q: %w", digits, err)
	}
	return binary.LittleEndian.Uint64(b), nil
}
