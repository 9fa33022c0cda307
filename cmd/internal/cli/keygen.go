package cli

import (
	"crypto/rand"
	"encoding/base64"
	"flag"
)

func keygenCommand() *command {
	return &command{
		name:     "keygen",
		synopsis: "Make a gossip encryption key",
		help: `
Prints a new random key for "encrypt" in the configuration. All agents of a
datacenter must have the same one; datacenters that share it may join.

    $ landbridge keygen
    pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s=`,
		setup: func(fs *flag.FlagSet) run {
			return func(c *call) error {
				key := make([]byte, 32)
				if _, err := rand.Read(key); err != nil {
					return failf("Error reading random data: %w", err)
				}
				c.println(base64.StdEncoding.EncodeToString(key))
				return nil
			}
		},
	}
}
