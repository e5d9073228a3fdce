//go:build linux && (amd64 || arm64)

package sample

import (
	"fmt"
	"reflect"
	"unsafe"
)

// fieldOf returns where a struct of the library, given by its pointer, keeps what it
// does not hand out: the field at the end of a path of fields. An error says that this
// version of the library keeps it elsewhere.
func fieldOf[F any](of any, path ...string) (*F, error) {
	v := reflect.ValueOf(of)
	for _, name := range path {
		if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
			return nil, fmt.Errorf("the unwinder's %s is not in a struct", name)
		}
		if v = v.Elem().FieldByName(name); !v.IsValid() {
			return nil, fmt.Errorf("the unwinder has no field %s", name)
		}
	}
	name := path[len(path)-1]
	if want := reflect.TypeFor[F](); v.Type() != want {
		return nil, fmt.Errorf("the unwinder's field %s is a %v, want a %v", name, v.Type(), want)
	}
	if v.Kind() == reflect.Interface && v.IsNil() {
		return nil, fmt.Errorf("the unwinder has no %s", name)
	}
	// The field is not exported, so its address is the only way to reach it.
	return (*F)(unsafe.Pointer(v.UnsafeAddr())), nil
}
