package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openmigrate/openmigrate/internal/cli"
	"github.com/openmigrate/openmigrate/master/oidc"
)

// oidcOptions say through which OpenID Connect provider people log in.
type oidcOptions struct {
	issuer, client, secretFile, claim string
	scopes, roles                     []string
}

func (o *oidcOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.issuer, "oidc-issuer", "", "OpenID Connect provider through which people log in; it must know URL"+oidc.CallbackPath+" as redirect URI, with the URL of this master")
	f.StringVar(&o.client, "oidc-client-id", "", "what the provider calls this master")
	f.StringVar(&o.secretFile, "oidc-client-secret-file", "", "file with the client's secret (default: a public client; PKCE is used in any case)")
	f.StringSliceVar(&o.scopes, "oidc-scope", nil, "further scope to ask for, such as groups; again for each")
	f.StringVar(&o.claim, "oidc-claim", "groups", "claim whose values give roles; with dots for claims inside of claims")
	f.StringArrayVar(&o.roles, "oidc-role", nil, "VALUE=PROJECT:ROLE: what a value of the claim gives, such as 'it-admins=*:admin'; again for each")
}

// config is nil when there is no provider.
func (o *oidcOptions) config() (*oidc.Config, error) {
	if o.issuer == "" {
		if o.client != "" || o.secretFile != "" || len(o.roles) > 0 {
			return nil, cli.Usagef("--oidc-issuer is needed with the other --oidc flags")
		}
		return nil, nil
	}
	if o.client == "" {
		return nil, cli.Usagef("--oidc-client-id is needed with --oidc-issuer")
	}
	roles, err := oidc.ParseRoles(o.roles)
	if err != nil {
		return nil, cli.Usagef("--oidc-role %w", err)
	}
	c := &oidc.Config{Issuer: o.issuer, ClientID: o.client, Scopes: o.scopes, Claim: o.claim, Roles: roles}
	if o.secretFile == "" {
		return c, nil
	}
	b, err := os.ReadFile(o.secretFile)
	if err != nil {
		return nil, fmt.Errorf("read client secret: %w", err)
	}
	c.ClientSecret = strings.TrimSpace(string(b))
	return c, nil
}
