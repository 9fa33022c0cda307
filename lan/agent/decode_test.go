package agent

import (
	"encoding/json"
	"reflect"
	"testing"

	"landbridge/store"
)

const fullService = ` {"ID":"a\u0062","Name" : "web", "Tags":["x","y\n"] ,"Meta":{"k":"v","e":""},"Port":80,
	"tagged_addresses":{"lan":{"Address":"10.0.0.1","Port":8}},"Weights":{"Passing":3},"enable_tag_override":true,
	"Proxy":{"a":[1,{"b":"]}"}]},"Connect":null,
	"Checks":[{"CheckID":"c","HTTP":"http://x/{\"}","Header":{"A":["b"]},"Interval":"10s"},null,{"TTL":"1s"}]} `

func TestDecodeService(t *testing.T) {
	got, err := DecodeService([]byte(fullService))
	if err != nil {
		t.Fatal(err)
	}
	want := &ServiceDefinition{
		ID: "ab", Name: "web", Tags: []string{"x", "y\n"}, Meta: map[string]string{"k": "v", "e": ""}, Port: 80,
		TaggedAddresses: map[string]store.ServiceAddress{"lan": {Address: "10.0.0.1", Port: 8}},
		Weights:         &store.Weights{Passing: 3}, EnableTagOverride: true,
		Proxy: json.RawMessage(`{"a":[1,{"b":"]}"}]}`),
		Checks: []*CheckDefinition{
			{ID: "c", HTTP: `http://x/{"}`, Header: map[string][]string{"A": {"b"}}, Interval: 10e9},
			{TTL: 1e9},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for body, want := range map[string]string{
		``:                         "EOF",
		`x`:                        "invalid character 'x' looking for beginning of value",
		`{"Name":"a"`:              "unexpected EOF",
		`{"Name":"a",}`:            "invalid character '}' looking for beginning of object key string",
		`{"Name":1}`:               "json: cannot unmarshal number into Go value of type string",
		`{"Port":"80"}`:            "json: cannot unmarshal string into Go value of type int",
		`{"Port":80.0}`:            "json: cannot unmarshal number 80.0 into Go value of type int",
		`[]`:                       "json: cannot unmarshal array into Go value of type ServiceDefinition",
		`{"Name":"a","Bogus":{}}`:  `json: unknown field "Bogus"`,
		`{"Check":{"Bogus":1}}`:    `json: unknown field "Bogus"`,
		`{"Checks":{}}`:            "json: cannot unmarshal object into Go struct field ServiceDefinition.Checks of type []*CheckDefinition",
		`{"Namespace":"default"}`:  `json: unknown field "Namespace"`,
		`{"Name":"a"} {"Name":"b"`: "", // what follows the first value is not looked at
		`null`:                     "",
	} {
		_, err := DecodeService([]byte(body))
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", body, err)
			}
			continue
		}
		if err == nil || err.Error() != "Request decode failed: "+want || store.KindOf(err) != store.KindBadRequest {
			t.Errorf("%s: got %v\nwant %s", body, err, want)
		}
	}
}

func BenchmarkDecodeService(b *testing.B) {
	body := []byte(`{"ID":"churn-12","Name":"churn-12","Port":8000,"Tags":["v1"],"Check":{"CheckID":"ttl:churn-12","TTL":"600s","Status":"passing"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeService(body); err != nil {
			b.Fatal(err)
		}
	}
}
