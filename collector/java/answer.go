package java

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// maxAnswerBytes bounds the answer of a JVM to one command.
const maxAnswerBytes = 256 << 10

// maxTextBytes bounds what an error quotes of a JVM's answer.
const maxTextBytes = 300

// An answer is what a JVM sends back for a command of the attach protocol: a line with a
// number, 0 for success, and text.
type answer struct {
	code int
	text string
}

// readAnswer reads an answer to its end. A longer one than maxAnswerBytes is an error.
func readAnswer(r io.Reader) (answer, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxAnswerBytes+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the JVM's answer: %w", err)
	}
	if len(b) > maxAnswerBytes {
		return answer{}, fmt.Errorf("the JVM's answer has more than %d bytes", maxAnswerBytes)
	}
	return parseAnswer(b)
}

// parseAnswer reads an answer.
func parseAnswer(b []byte) (answer, error) {
	if len(b) == 0 {
		return answer{}, errors.New("the JVM closed the connection without an answer")
	}
	line, text, _ := bytes.Cut(b, []byte{'\n'})
	code, err := strconv.ParseInt(string(bytes.TrimSpace(line[:min(len(line), 32)])), 10, 32)
	if err != nil {
		return answer{}, fmt.Errorf("the JVM's answer begins with %.40q where a number is due", line)
	}
	return answer{int(code), string(text)}, nil
}

// quote returns what the answer says, in one line of bounded length.
func (a answer) quote() string { return oneLine(a.text) }

func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s[:min(len(s), maxTextBytes)], "")), " ")
	return strconv.Quote(s)
}

// agentCode returns the code with which a loaded agent's entry point returned, from the
// answer to the command load: "return code: 0" since JDK 9, a bare number before.
func (a answer) agentCode() (int, error) {
	if a.code != 0 {
		return 0, fmt.Errorf("the JVM cannot load the library: %s", a.quote())
	}
	text := strings.TrimPrefix(strings.TrimSpace(a.text), "return code:")
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the JVM cannot load the library: %s", a.quote())
	}
	return int(n), nil
}

// jdkVersion matches the version in the answer to VM.version.
var jdkVersion = regexp.MustCompile(`(?m)^JDK (\d{1,4})\b`)

// jdk returns the major version of the JDK from the answer to VM.version; 0 if it is
// not there.
func (a answer) jdk() int {
	if m := jdkVersion.FindStringSubmatch(a.text); m != nil {
		n, _ := strconv.Atoi(m[1]) // digits only
		return n
	}
	return 0
}

// recordingName matches a recording in the answer to JFR.check, which since JDK 11 has
// them as "Recording 1: name=shop (running)", and before as
// `Recording: recording=1 name="shop" (running)`.
var recordingName = regexp.MustCompile(`(?m)^Recording:? .*?\bname=(?:"([^"\n]*)"|([^"\s]*))`)

// recordings returns the names of the flight recordings in the answer to JFR.check.
func (a answer) recordings() []string {
	var names []string
	for _, m := range recordingName.FindAllStringSubmatch(a.text, -1) {
		names = append(names, m[1]+m[2])
	}
	// A recording in a form that is not known counts as somebody's.
	if n := strings.Count("\n"+a.text, "\nRecording"); n > len(names) {
		names = append(names, "")
	}
	return names
}
