package build

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
)

// longTests returns the tests in a package's folder that are left out or shortened if
// tests are to be short: those in which testing.Short is called, by themselves or by a
// function of the folder's tests that they name.
func longTests(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	var functions []*ast.FuncDecl
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse tests: %w", err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				functions = append(functions, f)
			}
		}
	}
	long := map[string]bool{"Short": true}
	for grown := true; grown; {
		grown = false
		for _, f := range functions {
			if !long[f.Name.Name] && names(f.Body, long) {
				long[f.Name.Name], grown = true, true
			}
		}
	}
	var tests []string
	for _, f := range functions {
		name := f.Name.Name
		isTest := strings.HasPrefix(name, "Test") && name != "TestMain" || strings.HasPrefix(name, "Fuzz")
		if f.Recv == nil && isTest && long[name] {
			tests = append(tests, name)
		}
	}
	return tests, nil
}

// names reports whether one of some identifiers is in a piece of code.
func names(code ast.Node, identifiers map[string]bool) (found bool) {
	ast.Inspect(code, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && identifiers[id.Name]
		return !found
	})
	return found
}
