package config

import (
	"reflect"
	"slices"
)

// Diff compares a running configuration with a new one. It lists the keys that
// differ: those that a running agent takes over, and those that need a restart.
func Diff(running, next *Config) (reload, restart []string) {
	diffStruct(reflect.ValueOf(*running), reflect.ValueOf(*next), "", false, &reload, &restart)
	slices.Sort(reload)
	slices.Sort(restart)
	return reload, restart
}

func diffStruct(a, b reflect.Value, path string, reloadable bool, reload, restart *[]string) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		key, ok := f.Tag.Lookup("key")
		if !ok && !f.Anonymous {
			continue
		}
		at := path
		if ok {
			at = join(path, key)
		}
		can := reloadable || f.Tag.Get("reload") != ""
		if f.Type.Kind() == reflect.Struct {
			diffStruct(a.Field(i), b.Field(i), at, can, reload, restart)
			continue
		}
		if reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			continue
		}
		if can {
			*reload = append(*reload, at)
		} else {
			*restart = append(*restart, at)
		}
	}
}
