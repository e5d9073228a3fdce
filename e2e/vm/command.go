package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// newCommand returns a command with further environment variables, which prints to this
// command's streams.
func newCommand(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func command(ctx context.Context, name string, args ...string) error {
	return commandEnv(ctx, nil, name, args...)
}

func commandIn(ctx context.Context, dir, name string, args ...string) error {
	cmd := newCommand(ctx, nil, name, args...)
	cmd.Dir = dir
	return named(cmd, cmd.Run())
}

func commandEnv(ctx context.Context, env []string, name string, args ...string) error {
	cmd := newCommand(ctx, env, name, args...)
	return named(cmd, cmd.Run())
}

// output runs a command and returns its output without surrounding white space.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := newCommand(ctx, nil, name, args...)
	cmd.Stdout = nil
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), named(cmd, err)
}

// named adds a command to its error.
func named(cmd *exec.Cmd, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
}
