package main

import (
	"fmt"
	"net"
	"strconv"
)

// The agents' default ports.
const (
	rpcPort  = 8300
	lanPort  = 8301
	wanPort  = 8302
	httpPort = 8500
	dnsPort  = 8600
)

// shifts are what freePorts tries to add to them; more would reach the ephemeral
// ports.
var shifts = []int{0, 10000, 20000}

func (d *demo) port(p int) string { return strconv.Itoa(p + d.shift) }

func (d *demo) at(ip string, port int) string { return net.JoinHostPort(ip, d.port(port)) }

// freePorts returns the smallest shift with which all ports of all agents are
// free. Starting beside a listener of another agent would show that one's answers.
func freePorts() (shift int, err error) {
	var first error
	for _, shift := range shifts {
		err := portsFree(shift)
		if err == nil {
			return shift, nil
		}
		if first == nil {
			first = err
		}
	}
	return 0, fmt.Errorf("%w; with %d added to each port it is the same: end the agents that hold them", first, shifts[1:])
}

// portsFree listens on everything for a moment.
func portsFree(shift int) error {
	for dc := 1; dc <= 2; dc++ {
		for n := 1; n <= 4; n++ {
			ip := fmt.Sprintf("127.0.%d.%d", dc, n)
			for _, port := range []int{rpcPort, lanPort, httpPort, dnsPort} {
				l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port+shift)))
				if err != nil {
					return err
				}
				l.Close()
			}
			for _, port := range []int{lanPort, wanPort, dnsPort} {
				c, err := net.ListenPacket("udp", net.JoinHostPort(ip, strconv.Itoa(port+shift)))
				if err != nil {
					return err
				}
				c.Close()
			}
		}
	}
	return nil
}
