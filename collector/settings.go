package main

import (
	"fmt"

	"github.com/alecthomas/kingpin/v2"

	"github.com/flameline/flameline/collector/config"
)

// settings are flags that set keys of the configuration file. A flag that is given takes
// precedence over the file.
type settings struct {
	clause *kingpin.CmdClause
	given  []*setting
}

// A setting is one of these flags. It implements kingpin.Value.
type setting struct {
	set   func(c *config.Config, value string) error
	owner *settings
	value string
}

// flag declares a flag. fallback is shown in the help text only.
func (s *settings) flag(name, help, fallback string, set func(*config.Config, string) error) {
	s.clause.Flag(name, help).PlaceHolder(fallback).SetValue(&setting{owner: s, set: set})
}

// Set checks a flag's value and keeps it for apply.
func (f *setting) Set(value string) error {
	if err := f.set(config.Default(), value); err != nil {
		return err
	}
	f.value = value
	f.owner.given = append(f.owner.given, f)
	return nil
}

// String returns the value as given.
func (f *setting) String() string { return f.value }

// apply applies the given flags to c.
func (s *settings) apply(c *config.Config) error {
	for _, f := range s.given {
		if err := f.set(c, f.value); err != nil {
			return err
		}
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	return nil
}
