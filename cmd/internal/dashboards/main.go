// Command dashboards writes the Grafana dashboards of deploy/prometheus: three of
// them, from one list of panels each, so that their looks and their variables agree.
//
//	dashboards DIR
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: dashboards DIR")
		os.Exit(2)
	}
	for _, d := range dashboards() {
		if err := os.WriteFile(filepath.Join(os.Args[1], d.file()), d.json(), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "dashboards:", err)
			os.Exit(1)
		}
	}
}

// dashboard is one page: rows of panels, for the datacenter or server that its
// variables choose.
type dashboard struct {
	name, title string
	variables   []string // names of labels, each narrowed by those before it
	rows        []row
}

type row struct {
	title  string
	panels []panel
}

// panel is a graph, or with stat a number, of one or more queries.
type panel struct {
	title, unit, help string
	stat              bool
	queries           []query
}

type query struct{ expr, legend string }

func (d dashboard) file() string { return "landbridge-" + d.name + ".json" }

type object = map[string]any

// Grafana's grid is 24 wide; a graph takes a third, a number a sixth.
const (
	gridWidth             = 24
	graphWidth, statWidth = 8, 4
	panelHeight           = 7
)

func (d dashboard) json() []byte {
	source := object{"type": "prometheus", "uid": "${source}"}
	variables := []any{object{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}}
	narrow := ""
	for _, label := range d.variables {
		q := fmt.Sprintf("label_values(landbridge_build_info{%s}, %s)", narrow, label)
		variables = append(variables, object{"name": label, "type": "query", "datasource": source, "query": q, "refresh": 2, "sort": 1})
		if narrow != "" {
			narrow += ", "
		}
		narrow += fmt.Sprintf("%s=\"$%s\"", label, label)
	}
	var panels []any
	id, y := 0, 0
	for _, r := range d.rows {
		id++
		panels = append(panels, object{"id": id, "type": "row", "title": r.title, "gridPos": object{"x": 0, "y": y, "w": gridWidth, "h": 1}})
		y++
		x := 0
		for _, p := range r.panels {
			id++
			kind, width := "timeseries", graphWidth
			if p.stat {
				kind, width = "stat", statWidth
			}
			if x+width > gridWidth {
				x, y = 0, y+panelHeight
			}
			var targets []any
			for i, q := range p.queries {
				targets = append(targets, object{"refId": string(rune('A' + i)), "expr": q.expr, "legendFormat": q.legend, "datasource": source})
			}
			panels = append(panels, object{
				"id": id, "type": kind, "title": p.title, "description": p.help, "datasource": source, "targets": targets,
				"gridPos":     object{"x": x, "y": y, "w": width, "h": panelHeight},
				"fieldConfig": object{"defaults": object{"unit": p.unit, "min": 0}, "overrides": []any{}},
			})
			x += width
		}
		y += panelHeight
	}
	b, err := json.MarshalIndent(object{
		"uid": "landbridge-" + d.name, "title": "landbridge: " + d.title, "tags": []string{"landbridge"}, "schemaVersion": 39, "editable": true,
		"time": object{"from": "now-3h", "to": "now"}, "refresh": "30s", "templating": object{"list": variables}, "panels": panels,
		"links": []any{object{"type": "dashboards", "tags": []string{"landbridge"}, "title": "landbridge", "asDropdown": true, "includeVars": true, "keepTime": true}},
	}, "", "  ")
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return append(b, '\n')
}
