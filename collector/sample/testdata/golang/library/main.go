// Burns CPU time in functions of the standard library, many of which are
// written in assembly, and profiles itself with Go's own profiler meanwhile.
// Arguments: seconds to run; file for the profile.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/big"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var (
	sink int
	text = []byte(strings.Repeat("the quick brown fox jumps over the lazy dog; ", 400))
	word = regexp.MustCompile(`l[a-z]+y (d[a-z]g|c.t)`)
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

//go:noinline
func digests() {
	a, b, c, d := sha1.Sum(text), sha256.Sum256(text), sha512.Sum512(text), md5.Sum(text)
	sink += int(a[0]) + int(b[0]) + int(c[0]) + int(d[0]) + int(crc32.ChecksumIEEE(text))
}

//go:noinline
func ciphers(gcm cipher.AEAD) {
	nonce := make([]byte, gcm.NonceSize())
	for range 4 {
		sink += len(gcm.Seal(nil, nonce, text, nil))
	}
}

//go:noinline
func signatures(key *ecdsa.PrivateKey) {
	h := sha256.Sum256(text[:100])
	s, err := ecdsa.SignASN1(rand.Reader, key, h[:])
	check(err)
	if !ecdsa.VerifyASN1(&key.PublicKey, h[:], s) {
		panic("signature")
	}
}

//go:noinline
func searches() {
	for range 20 {
		sink += bytes.IndexByte(text, 'Q') + bytes.Index(text, []byte("zyx")) + bytes.Count(text, []byte("o"))
	}
	sink += len(word.FindAllIndex(text[:3000], -1))
}

//go:noinline
func copies() {
	for range 20 {
		b := make([]byte, len(text))
		copy(b, text)
		if !bytes.Equal(b, text) {
			panic("copy")
		}
		clear(b)
	}
}

//go:noinline
func numbers() {
	x, y := new(big.Int).SetBytes(text[:512]), new(big.Int).SetBytes(text[100:612])
	for range 10 {
		sink += new(big.Int).Mul(x, y).BitLen()
	}
	sink += len(x.String())
}

//go:noinline
func documents() {
	m := map[string]any{}
	for i := range 50 {
		m["key"+strconv.Itoa(i)] = []any{float64(i), fmt.Sprint(i), nil, true}
	}
	b, err := json.Marshal(m)
	check(err)
	check(json.Unmarshal(b, &m))
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
}

//go:noinline
func archives() {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(text)
	check(err)
	check(w.Close())
	sink += b.Len()
}

// grown starts goroutines whose stacks must grow.
//
//go:noinline
func grown() {
	done := make(chan int)
	for range 4 {
		go func() { done <- deep(6) }()
	}
	for range 4 {
		sink += <-done
	}
}

//go:noinline
func deep(n int) int {
	var a [256]byte
	a[n] = byte(sink)
	if n == 0 {
		return int(a[0])
	}
	return deep(n-1) + int(a[n])
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	check(err)
	f, err := os.Create(os.Args[2])
	check(err)
	block, err := aes.NewCipher(text[:16])
	check(err)
	gcm, err := cipher.NewGCM(block)
	check(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	// More often than the 100 Hz that StartCPUProfile would set; it then
	// complains, and keeps this rate.
	runtime.SetCPUProfileRate(250)
	check(pprof.StartCPUProfile(f))
	for began := time.Now(); time.Since(began).Seconds() < seconds; {
		digests()
		ciphers(gcm)
		signatures(key)
		searches()
		copies()
		numbers()
		documents()
		archives()
		grown()
	}
	pprof.StopCPUProfile()
	check(f.Close())
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	fmt.Println(0, 0, u.Utime.Nano()+u.Stime.Nano())
}
