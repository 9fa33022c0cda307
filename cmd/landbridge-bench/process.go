package main

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// process is a child process that may be started again after its end. Its methods
// may be called concurrently.
type process struct {
	mu    sync.Mutex // guards the following
	cmd   *exec.Cmd  // nil before the first start
	done  chan struct{}
	ended bool
	spent time.Duration // CPU of those that ended
}

// forker runs functions on one thread that never ends: the kernel sends a child its
// parent-death signal when the thread that made it ends.
var forker = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

// start starts a command, which gets onOurDeath should this process be killed.
func (p *process) start(cmd *exec.Cmd, onOurDeath syscall.Signal) error {
	// A group of its own: the terminal's Ctrl-C reaches us alone, and we stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: onOurDeath}
	started := make(chan error)
	forker() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return err
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done, p.ended = cmd, done, false
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait() // how it ended is told by its log
		p.mu.Lock()
		p.spent += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		p.ended = true
		p.mu.Unlock()
		close(done)
	}()
	return nil
}

// kill is kill -9, and waits for the end.
func (p *process) kill() { p.end(syscall.SIGKILL, 0) }

// end sends a signal and waits; what has not ended after grace is killed.
func (p *process) end(sig syscall.Signal, grace time.Duration) {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(sig) // one that has ended is fine
	select {
	case <-done:
		return
	case <-time.After(grace):
	}
	_ = cmd.Process.Kill()
	<-done
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && !p.ended
}

// cpu is the user and system time of all processes so far.
func (p *process) cpu() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.ended {
		return p.spent
	}
	return p.spent + processCPU(p.cmd.Process.Pid)
}

// rss is the resident memory in MiB.
func (p *process) rss() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.ended {
		return 0
	}
	return processRSS(p.cmd.Process.Pid)
}
