package top

import (
	"context"
	"fmt"
	"time"

	"github.com/gdamore/tcell/v2"
)

// keys is the last line of the screen.
const keys = "q quit  o t O T f sort  r reverse  c clear  space pause  ↑ ↓ PgUp PgDn scroll"

// A View is what Screen and Batch show.
type View struct {
	Table     *Table
	Title     string // what is sampled
	Processes bool   // a column for processes
	Order     Order
	Every     time.Duration // between two snapshots
	Began     time.Time
	// Ended, if it is closed, ends the view.
	Ended <-chan struct{}
}

// Screen shows the table on the terminal until q, Escape or Ctrl-C is pressed, ctx is done
// or the view ends, and leaves the terminal as it was. The error is that of a terminal which
// cannot be used.
func (v *View) Screen(ctx context.Context) error {
	screen, err := tcell.NewScreen()
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if err := screen.Init(); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	defer screen.Fini() // also when something panics
	events, quit := make(chan tcell.Event, 16), make(chan struct{})
	defer close(quit)
	go screen.ChannelEvents(events, quit)
	p := &pane{View: v, screen: screen}
	v.Table.Begin(v.Began)
	timer := time.NewTimer(time.Until(v.Table.Next(v.Every)))
	defer timer.Stop()
	for {
		p.draw()
		select {
		case <-ctx.Done():
			return nil
		case <-v.Ended:
			return nil
		case <-timer.C:
			if !p.paused {
				p.take(time.Now())
			}
			timer.Reset(max(time.Until(v.Table.Next(v.Every)), windowTime/2))
		case e, ok := <-events:
			if !ok || !p.handle(e) {
				return nil
			}
		}
	}
}

// A pane is the state of a screen.
type pane struct {
	*View
	screen   tcell.Screen
	snapshot Snapshot
	from     int // first row that is shown
	reversed bool
	paused   bool
}

func (p *pane) take(now time.Time) {
	p.snapshot = p.Table.Snapshot(now)
	p.snapshot.Sort(p.Order)
}

// handle handles an event, and reports whether to go on.
func (p *pane) handle(e tcell.Event) bool {
	switch e := e.(type) {
	case *tcell.EventResize:
		p.screen.Sync()
	case *tcell.EventError:
		return false // the terminal is gone
	case *tcell.EventKey:
		return p.key(e)
	}
	return true
}

func (p *pane) key(e *tcell.EventKey) bool {
	_, height := p.screen.Size()
	page := max(1, height-4)
	switch e.Key() {
	case tcell.KeyCtrlC, tcell.KeyEscape, tcell.KeyCtrlD:
		return false
	case tcell.KeyCtrlL:
		p.screen.Sync()
	case tcell.KeyUp:
		p.from--
	case tcell.KeyDown:
		p.from++
	case tcell.KeyPgUp:
		p.from -= page
	case tcell.KeyPgDn:
		p.from += page
	case tcell.KeyHome:
		p.from = 0
	case tcell.KeyEnd:
		p.from = len(p.snapshot.Rows)
	case tcell.KeyRune:
		switch e.Rune() {
		case 'q', 'Q':
			return false
		case 'o', '1':
			p.sort(ByOwn)
		case 't', '2':
			p.sort(ByTotal)
		case 'O', '3':
			p.sort(ByAllOwn)
		case 'T', '4':
			p.sort(ByAllTotal)
		case 'f', '5':
			p.sort(ByFunction)
		case 'r':
			p.reversed = !p.reversed
		case 'c':
			p.Table.Clear()
			p.snapshot.Rows = nil
		case ' ', 'p':
			p.paused = !p.paused
		}
	}
	p.from = max(0, min(p.from, len(p.snapshot.Rows)-1))
	return true
}

func (p *pane) sort(by Order) {
	p.Order, p.from = by, 0
	p.snapshot.Sort(by)
}

// state says what was sampled lately.
func (p *pane) state() string {
	if p.snapshot.Span == 0 {
		return "sampling"
	}
	return p.snapshot.summary()
}

// draw draws everything; the screen sends what has changed.
func (p *pane) draw() {
	p.screen.Clear()
	width, height := p.screen.Size()
	plain := tcell.StyleDefault
	put := func(y int, style tcell.Style, text string) {
		if y >= 0 && y < height {
			p.screen.PutStrStyled(0, y, text, style)
		}
	}
	state := ""
	if p.paused {
		state = "  (paused)"
	}
	put(0, plain.Bold(true), fmt.Sprintf("%s  %s  %s%s", printable(p.Title), time.Since(p.Began).Round(time.Second), p.state(), state))
	head := headLine(p.Processes)
	put(2, plain.Reverse(true), fmt.Sprintf("%-*s", width, head))
	if p.Order < ByFunction {
		// The column that is sorted by, underlined.
		at := []int{0, 9, 18, 28}[p.Order]
		p.screen.PutStrStyled(at, 2, fmt.Sprintf("%*s", []int{8, 8, 9, 9}[p.Order], heads[p.Order]), plain.Reverse(true).Bold(true).Underline(true))
	}
	rows := p.snapshot.Rows
	for y := 3; y < height-1; y++ {
		i := p.from + y - 3
		if i >= len(rows) {
			break
		}
		if p.reversed {
			i = len(rows) - 1 - i
		}
		style := plain
		if rows[i].Total == 0 {
			style = plain.Dim(true)
		}
		put(y, style, rows[i].line(&p.snapshot, p.Processes))
	}
	put(height-1, plain.Dim(true), keys)
	p.screen.Show()
}
