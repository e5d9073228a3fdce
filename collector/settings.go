package main

import (
	"fmt"

	"github.com/alecthomas/kingpin/v2"

	"github.com/flameline/flameline/collector/config"
)

// settings are flags that stand for keys of the configuration file. A flag
// that was given wins over the file, one that was not changes nothing.
type settings struct {
	clause *kingpin.CmdClause
	given  []*setting
}

// A setting is one such flag; it implements kingpin.Value.
type setting struct {
	set   func(c *config.Config, value string) error
	owner *settings
	value string
}

// flag declares a flag. fallback is for the help text alone.
func (s *settings) flag(name, help, fallback string, set func(*config.Config, string) error) {
	s.clause.Flag(name, help).PlaceHolder(fallback).SetValue(&setting{owner: s, set: set})
}

// Set keeps a flag's value for apply, after trying whether it can be.
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

// apply writes the given flags over c.
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
