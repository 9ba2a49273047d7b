//go:build e2e

package awsfake_test

import "testing"

// TestAWSCLI is in make e2e, since awscli takes a second of processor time for each of its thirty calls.
func TestAWSCLI(t *testing.T) { client(t, "/bin/bash", "testdata/life.sh") }
