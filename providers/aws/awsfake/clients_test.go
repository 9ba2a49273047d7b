package awsfake_test

import (
	"net/http/httptest"
	"os/exec"
	"testing"

	"github.com/openmigrate/openmigrate/providers/aws/awsfake"
)

// client runs a program against a new endpoint, with nothing of the user's own configuration, and looks that it has left nothing there.
func client(t *testing.T, argv ...string) {
	t.Helper()
	s := awsfake.New(&awsfake.Options{Roles: []awsfake.Role{{Name: "openmigrate", ExternalID: "external"}}, Boot: func(string) string { return "Debian GNU/Linux 12 copy ttyS0\r\n\r\ncopy login: " }})
	server := httptest.NewServer(s)
	defer server.Close()
	c := exec.CommandContext(t.Context(), argv[0], append(argv[1:], server.URL)...)
	c.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_ACCESS_KEY_ID=" + awsfake.TestKey.ID, "AWS_SECRET_ACCESS_KEY=" + awsfake.TestKey.Secret,
		"AWS_DEFAULT_REGION=" + s.Region(), "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER="}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for kind, n := range s.Live() {
		if n != 0 {
			t.Errorf("%d %ss are left", n, kind)
		}
	}
}

// TestBoto3 lets a client that the project did not write drive the endpoint: Debian's python3-boto3. What it takes for an answer of AWS is more than a test
// of ours can say. scripts/setup test installs it; TestAWSCLI does the same with awscli.
func TestBoto3(t *testing.T) { client(t, "/usr/bin/python3", "testdata/life.py") }
