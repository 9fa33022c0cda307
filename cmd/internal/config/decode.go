package config

import (
	"fmt"
	"reflect"
	"time"
)

// decode sets the fields of the struct that dst points to from a tree. The tree
// was read against the same fields, so a mismatch is a bug here.
func decode(t tree, dst any) {
	decodeStruct(t, reflect.ValueOf(dst).Elem())
}

func decodeStruct(t tree, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			decodeStruct(t, v.Field(i))
			continue
		}
		key, ok := f.Tag.Lookup("key")
		if !ok {
			continue
		}
		if val, ok := t[key]; ok {
			decodeValue(val, v.Field(i))
		}
	}
}

func decodeValue(val any, v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if v.Kind() == reflect.Interface {
		v.Set(reflect.ValueOf(val)) // opaque
		return
	}
	switch x := val.(type) {
	case string:
		v.SetString(x)
	case bool:
		v.SetBool(x)
	case int64:
		v.SetInt(x)
	case float64:
		v.SetFloat(x)
	case time.Duration:
		v.SetInt(int64(x))
	case []any:
		list := reflect.MakeSlice(v.Type(), len(x), len(x))
		for i, e := range x {
			decodeValue(e, list.Index(i))
		}
		v.Set(list)
	case tree:
		if v.Kind() == reflect.Struct {
			decodeStruct(x, v)
			return
		}
		m := reflect.MakeMapWithSize(v.Type(), len(x))
		for k, e := range x {
			ev := reflect.New(v.Type().Elem()).Elem()
			decodeValue(e, ev)
			m.SetMapIndex(reflect.ValueOf(k), ev)
		}
		v.Set(m)
	default:
		panic(fmt.Sprintf("config: a %T in a tree", val))
	}
}
