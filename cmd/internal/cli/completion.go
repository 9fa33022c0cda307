package cli

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

func completionCommand() *command {
	return &command{
		name:     "completion",
		args:     "bash|zsh|fish",
		synopsis: "Print a script that completes commands in a shell",
		help: `
Prints a script for a shell, which then completes commands, flags and files.

For the running shell:

    $ source <(landbridge completion bash)
    $ source <(landbridge completion zsh)
    $ landbridge completion fish | source

For all to come:

    $ landbridge completion bash > /etc/bash_completion.d/landbridge
    $ landbridge completion zsh > "${fpath[1]}/_landbridge"
    $ landbridge completion fish > ~/.config/fish/completions/landbridge.fish`,
		choices: []string{"bash", "zsh", "fish"},
		setup: func(fs *flag.FlagSet) run {
			return func(c *call) error {
				if len(c.args) != 1 {
					return usagef("Name one shell: bash, zsh or fish.")
				}
				t := newTable()
				switch c.args[0] {
				case "bash":
					t.bash(c.Stdout)
				case "zsh":
					t.zsh(c.Stdout)
				case "fish":
					t.fish(c.Stdout)
				default:
					return usagef("There is no completion for %q: name bash, zsh or fish.", c.args[0])
				}
				return nil
			}
		},
	}
}

// takes says what a flag's value is, for completion.
type takes int

const (
	nothing takes = iota // a boolean
	word
	file
	dir
	oneOf
)

func (t *table) taken(f *flag.Flag) (takes, []string) {
	if isBool(f) {
		return nothing, nil
	}
	if l, ok := f.Value.(interface{ Choices() []string }); ok {
		return oneOf, l.Choices()
	}
	switch name, _ := flag.UnquoteUsage(f); name {
	case "FILE", "PATH":
		return file, nil
	case "DIR":
		return dir, nil
	}
	return word, nil
}

// flagText is a flag's help in one line.
func flagText(f *flag.Flag) string {
	name, usage := flag.UnquoteUsage(f)
	usage = strings.TrimSuffix(usage, " "+name)
	return strings.TrimSuffix(usage, ".")
}

// allFlags lists all flags of a command.
func (cmd *command) allFlags() []*flag.Flag {
	own, shared := cmd.flags()
	return append(own, shared...)
}

// filesToo says whether positional arguments may be files.
func (cmd *command) filesToo() bool {
	return strings.Contains(cmd.args, "FILE") || strings.Contains(cmd.args, "DATA")
}

// levels lists every place where a word is chosen: the top and the groups.
func (t *table) levels() []string {
	out := []string{""}
	for _, g := range t.groups {
		out = append(out, g.name)
	}
	return out
}

// bash prints a script that needs nothing but bash itself.
func (t *table) bash(w io.Writer) {
	fmt.Fprintf(w, "# bash completion for %s; made by `%s completion bash`.\n", Name, Name)
	fmt.Fprintf(w, `_%s() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= next w i words= flags= files=
    COMPREPLY=()
    # "-flag=value" arrives as three words.
    [[ $cur == = ]] && cur=
    [[ $prev == = && COMP_CWORD -gt 1 ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        w=${COMP_WORDS[i]}
        [[ $w == -* ]] && break
        next="${cmd:+$cmd }$w"
        case $next in
`, Name)
	for _, l := range t.levels()[1:] {
		fmt.Fprintf(w, "        %q) cmd=$next ;;\n", l)
	}
	for _, c := range t.commands {
		fmt.Fprintf(w, "        %q) cmd=$next; break ;;\n", c.name)
	}
	fmt.Fprint(w, "        *) break ;;\n        esac\n    done\n    case $cmd in\n")
	for _, l := range t.levels() {
		fmt.Fprintf(w, "    %q) words=%q ;;\n", l, strings.Join(t.words(l), " "))
	}
	for _, c := range t.commands {
		fmt.Fprintf(w, "    %q)\n        case ${prev#-} in\n", c.name)
		byKind := map[takes][]string{}
		var names []string
		for _, f := range c.allFlags() {
			kind, choices := t.taken(f)
			if kind == oneOf {
				fmt.Fprintf(w, "        -%[1]s|%[1]s) [[ $prev == -* ]] && { COMPREPLY=($(compgen -W %[2]q -- \"$cur\")); return; } ;;\n", f.Name, strings.Join(choices, " "))
			}
			byKind[kind] = append(byKind[kind], "-"+f.Name+"|"+f.Name)
			names = append(names, "-"+f.Name)
		}
		for _, k := range []struct {
			kind takes
			what string
		}{{file, `COMPREPLY=($(compgen -f -- "$cur"));`}, {dir, `COMPREPLY=($(compgen -d -- "$cur"));`}, {word, ""}} {
			if list := byKind[k.kind]; len(list) > 0 {
				fmt.Fprintf(w, "        %s) [[ $prev == -* ]] && { %s return; } ;;\n", strings.Join(list, "|"), k.what)
			}
		}
		fmt.Fprintf(w, "        esac\n        flags=%q", strings.Join(names, " "))
		if len(c.choices) > 0 {
			fmt.Fprintf(w, " words=%q", strings.Join(c.choices, " "))
		}
		if c.filesToo() {
			fmt.Fprint(w, " files=1")
		}
		fmt.Fprint(w, " ;;\n")
	}
	fmt.Fprintf(w, `    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
        [[ $files ]] && COMPREPLY+=($(compgen -f -- "$cur"))
    fi
}
complete -o bashdefault -F _%[1]s %[1]s
`, Name)
}

// zsh prints a script for zsh's completion system.
func (t *table) zsh(w io.Writer) {
	fmt.Fprintf(w, "#compdef %s\n# zsh completion for %s; made by `%s completion zsh`.\n\n_%s() {\n    local cmd= next w i\n    local -a words_ flags_\n", Name, Name, Name, Name)
	fmt.Fprint(w, "    for ((i = 2; i < CURRENT; i++)); do\n        w=${words[i]}\n        [[ $w == -* ]] && break\n        next=\"${cmd:+$cmd }$w\"\n        case $next in\n")
	for _, l := range t.levels()[1:] {
		fmt.Fprintf(w, "        (%s) cmd=$next ;;\n", zshQuote(l))
	}
	for _, c := range t.commands {
		fmt.Fprintf(w, "        (%s) cmd=$next; break ;;\n", zshQuote(c.name))
	}
	fmt.Fprint(w, "        (*) break ;;\n        esac\n    done\n    case $cmd in\n")
	for _, l := range t.levels() {
		fmt.Fprintf(w, "    (%s)\n        words_=(", zshQuote(l))
		for _, word := range t.words(l) {
			fmt.Fprintf(w, " %s", zshQuote(word+":"+t.synopsis(strings.TrimSpace(l+" "+word))))
		}
		fmt.Fprint(w, " )\n        _describe -t commands command words_ ;;\n")
	}
	for _, c := range t.commands {
		fmt.Fprintf(w, "    (%s)\n        flags_=(", zshQuote(c.name))
		for _, f := range c.allFlags() {
			kind, choices := t.taken(f)
			star := ""
			if r, ok := f.Value.(interface{ Repeats() bool }); ok && r.Repeats() {
				star = "*"
			}
			spec := star + "-" + f.Name
			action := map[takes]string{nothing: "", word: "=:value: ", file: "=:file:_files", dir: "=:directory:_files -/"}[kind]
			if kind == oneOf {
				action = "=:value:(" + strings.Join(choices, " ") + ")"
			}
			text := strings.NewReplacer("[", "(", "]", ")", ":", ";").Replace(flagText(f))
			eq, rest := "", action
			if strings.HasPrefix(action, "=") {
				eq, rest = "=", action[1:]
			}
			fmt.Fprintf(w, "\n            %s", zshQuote(spec+eq+"["+text+"]"+rest))
		}
		switch {
		case len(c.choices) > 0:
			fmt.Fprintf(w, "\n            %s", zshQuote("*:argument:("+strings.Join(c.choices, " ")+")"))
		case c.filesToo():
			fmt.Fprintf(w, "\n            %s", zshQuote("*:file:_files"))
		}
		// The command's own words are no arguments of it.
		fmt.Fprintf(w, " )\n        shift %d words; ((CURRENT -= %d)); _arguments $flags_ ;;\n", strings.Count(c.name, " ")+1, strings.Count(c.name, " ")+1)
	}
	fmt.Fprintf(w, "    esac\n}\n\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    _%[1]s \"$@\"\nelse\n    compdef _%[1]s %[1]s\nfi\n", Name)
}

func zshQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// fish prints a script for fish. The words typed so far are compared as a whole,
// so that "catalog" alone and "catalog nodes" have lists of their own.
func (t *table) fish(w io.Writer) {
	fmt.Fprintf(w, "# fish completion for %s; made by `%s completion fish`.\n", Name, Name)
	fmt.Fprintf(w, `function __%[1]s_at --description 'Is the command so far exactly this, or this and arguments?'
    set -l typed (commandline -opc)
    set -e typed[1]
    set -l want $argv[2..]
    test (count $typed) -ge (count $want); or return 1
    for i in (seq (count $want))
        test "$typed[$i]" = "$want[$i]"; or return 1
    end
    test $argv[1] = any; or test (count $typed) -eq (count $want)
end
complete -c %[1]s -f
`, Name)
	for _, l := range t.levels() {
		for _, word := range t.words(l) {
			fmt.Fprintf(w, "complete -c %s -n '%s' -a %s -d %s\n", Name, fishAt("exact", l), word, fishQuote(t.synopsis(strings.TrimSpace(l+" "+word))))
		}
	}
	for _, c := range t.commands {
		at := fishAt("any", c.name)
		if c.filesToo() {
			fmt.Fprintf(w, "complete -c %s -n '%s' -F\n", Name, at)
		}
		if len(c.choices) > 0 {
			fmt.Fprintf(w, "complete -c %s -n '%s' -a %s\n", Name, at, fishQuote(strings.Join(c.choices, " ")))
		}
		for _, f := range c.allFlags() {
			kind, choices := t.taken(f)
			arg := map[takes]string{nothing: "", word: " -x", file: " -r -F", dir: " -x -a '(__fish_complete_directories)'"}[kind]
			if kind == oneOf {
				arg = " -x -a " + fishQuote(strings.Join(choices, " "))
			}
			fmt.Fprintf(w, "complete -c %s -n '%s' -o %s%s -d %s\n", Name, at, f.Name, arg, fishQuote(flagText(f)))
		}
	}
}

func fishAt(how, words string) string {
	return strings.TrimSpace("__" + Name + "_at " + how + " " + words)
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
