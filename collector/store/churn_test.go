package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/flameline/flameline/collector/store/internal/labelindex"
	"github.com/flameline/flameline/pkg/profile"
)

// A churn is a day in which pods come and go: each lives ten minutes and sends
// profiles of two sample types, of a few stacktraces each.
type churn struct {
	pods     int // in the day
	services int
}

const churnLife = 10 * time.Minute

// append adds the profiles of the pods that live in a part of the day, one every
// five minutes, and returns how many.
func (c churn) append(tb testing.TB, db *DB, from, to time.Duration) (n int) {
	return c.appendOn(tb, db, midnight, from, to)
}

// appendOn is append on another day than most tests'.
func (c churn) appendOn(tb testing.TB, db *DB, day time.Time, from, to time.Duration) (n int) {
	gap := 24 * time.Hour / time.Duration(c.pods)
	for at := from; at < to; at += 5 * time.Minute {
		var ps []profile.Profile
		flush := func() {
			n += len(ps)
			require.NoError(tb, db.Append(context.Background(), ps))
			ps = ps[:0]
		}
		for pod := int(max(0, (at-churnLife)/gap+1)); time.Duration(pod)*gap <= at && pod < c.pods; pod++ {
			ps = append(ps, c.profile(pod, day.Add(at+time.Duration(pod%1000)*time.Millisecond+time.Millisecond)))
			if len(ps) == 500 {
				flush()
			}
		}
		if len(ps) > 0 {
			flush()
		}
	}
	return n
}

func (c churn) profile(pod int, at time.Time) profile.Profile {
	service := pod % c.services
	hash := uint32(pod) * 2654435761
	return cpu(folded(at, fmt.Sprintf("main;serve;handle%d 3", pod%5), "main;gc 1"),
		labelindex.LabelServiceName, fmt.Sprintf("service-%02d", service),
		"namespace", fmt.Sprintf("ns-%d", service%4),
		"pod", fmt.Sprintf("service-%02d-%08x-%05d", service, hash, pod),
		"instance", fmt.Sprintf("10.%d.%d.%d:8080", pod>>16, pod>>8&255, pod&255),
		"node", fmt.Sprintf("node-%02d", pod%50),
		"container", "app", "region", "eu-west-1", "version", fmt.Sprintf("v1.%d", pod/20000))
}
