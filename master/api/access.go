package api

import "github.com/openmigrate/openmigrate/master/accounts"

// roleOf is the least role of those who may call an operation.
var roleOf = map[who]string{viewers: accounts.RoleViewer, operators: accounts.RoleOperator, admins: accounts.RoleAdmin, masters: accounts.RoleAdmin, anybody: "anybody"}

// access says which role may call which operation of the public API: by the id that the operation has in the OpenAPI document. It is the only
// place that says so; an operation that is not in it cannot be registered.
var access = map[string]who{
	"whoami": viewers,
	"events": viewers,

	"login":             anybody, // each decides for itself
	"get-login":         anybody,
	"get-link":          anybody,
	"use-link":          anybody,
	"logout":            viewers,
	"change-password":   viewers,
	"list-own-sessions": viewers,
	"end-own-session":   viewers,

	"list-users":        masters,
	"create-user":       masters,
	"get-user":          masters,
	"change-user":       masters,
	"remove-user":       masters,
	"create-link":       masters,
	"end-user-sessions": masters,

	"list-audit":       admins,
	"list-whole-audit": masters,
	"export-audit":     masters,
	"verify-audit":     masters,

	"list-webhooks":   admins,
	"create-webhook":  admins,
	"get-webhook":     admins,
	"change-webhook":  admins,
	"remove-webhook":  admins,
	"rotate-webhook":  admins,
	"test-webhook":    admins,
	"list-deliveries": admins,
	"resend-delivery": admins,

	"list-projects": viewers,
	"get-project":   viewers,

	"list-machines":      viewers,
	"get-summary":        viewers,
	"get-machine":        viewers,
	"change-machine":     operators,
	"remove-machine":     operators,
	"pause-machine":      operators,
	"resume-machine":     operators,
	"sync-machine":       operators,
	"get-sync":           viewers,
	"revoke-machine":     admins,
	"unfreeze-machine":   admins,
	"list-machine-disks": viewers,

	"list-sessions": viewers,
	"get-session":   viewers,

	"list-restpoints":      viewers,
	"get-latest-restpoint": viewers,
	"get-restpoint":        viewers,
	"remove-restpoint":     operators,
	"diff-restpoints":      viewers,
	"pin-restpoint":        operators,
	"unpin-restpoint":      operators,
	"list-files":           operators, // what is on a server's disk is more than that it is replicated
	"download-file":        operators,

	"list-jobs":  viewers,
	"create-job": operators,
	"get-job":    viewers,
	"cancel-job": operators,
	"hold-job":   operators,

	"list-launches":         viewers,
	"start-launch":          operators,
	"get-launch":            viewers,
	"revert-launch":         operators,
	"finalize-launch":       operators,
	"get-launch-console":    viewers,
	"get-launch-screenshot": viewers,
	"get-launch-template":   viewers,
	"set-launch-template":   operators,

	"list-providers": viewers,
	"get-provider":   viewers,
	"check-provider": admins,
	"list-orphans":   viewers,
	"remove-orphans": admins,

	"list-nodes":  viewers,
	"get-node":    viewers,
	"revoke-node": admins,

	"list-enrolment-tokens":  admins,
	"create-enrolment-token": admins,
	"remove-enrolment-token": admins,
	"list-tokens":            admins,
	"create-token":           admins,
	"remove-token":           admins,

	"get-staging":         viewers,
	"run-staging":         admins,
	"create-recovery-key": admins,

	"list-operations":  viewers,
	"get-operation":    viewers,
	"cancel-operation": admins,
}
