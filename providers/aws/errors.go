package aws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/openmigrate/openmigrate/providers"
)

// class is what a code means to those who launch: the class, and what to do where the service's message does not say it.
type class struct {
	err  error
	next string
}

// classes are the codes of "Error codes for the Amazon EC2 API", of the direct APIs' and of STS. A code that ends in a dot stands for all that begin so.
var classes = map[string]class{
	"AuthFailure":                       {providers.ErrDenied, "check the access key, the clock of this host, and the region"},
	"UnauthorizedOperation":             {providers.ErrDenied, "give the role this action (docs/AWS.md lists them all)"},
	"AccessDenied":                      {providers.ErrDenied, "give the role this action, or check its trust policy and the external id"},
	"AccessDeniedException":             {providers.ErrDenied, "give the role this action; for an encrypted snapshot, the use of its KMS key, and see that the key is enabled"},
	"InvalidClientTokenId":              {providers.ErrDenied, "the access key is unknown there: check it, and the region"},
	"UnrecognizedClientException":       {providers.ErrDenied, "the access key is unknown there: check it, and the region"},
	"SignatureDoesNotMatch":             {providers.ErrDenied, "check the secret key, the region and the endpoint"},
	"InvalidSignatureException":         {providers.ErrDenied, "check the secret key, the region and the endpoint"},
	"RequestExpired":                    {providers.ErrDenied, "the credentials or the request are too old: renew the credentials, set this host's clock"},
	"ExpiredToken":                      {providers.ErrDenied, "renew the credentials"},
	"ExpiredTokenException":             {providers.ErrDenied, "renew the credentials"},
	"OptInRequired":                     {providers.ErrDenied, "the account is not signed up for this service or region"},
	"MissingAuthenticationToken":        {providers.ErrDenied, "there are no credentials"},
	"OperationNotPermitted":             {providers.ErrConflict, ""},
	"VolumeLimitExceeded":               {providers.ErrQuota, "ask for more storage in Service Quotas, or remove volumes"},
	"SnapshotLimitExceeded":             {providers.ErrQuota, "ask for more snapshots in Service Quotas, or remove some"},
	"VcpuLimitExceeded":                 {providers.ErrQuota, "ask for more vCPUs in Service Quotas, or choose a smaller type"},
	"InstanceLimitExceeded":             {providers.ErrQuota, "ask for more instances in Service Quotas"},
	"MaxIOPSLimitExceeded":              {providers.ErrQuota, "ask for more IOPS in Service Quotas"},
	"AttachmentLimitExceeded":           {providers.ErrQuota, "choose a type that takes more volumes"},
	"InsufficientFreeAddressesInSubnet": {providers.ErrQuota, "the subnet is full: choose another network in the launch template"},
	"ServiceQuotaExceededException":     {providers.ErrQuota, "ask for more in Service Quotas"},
	"TagLimitExceeded":                  {providers.ErrInvalid, "leave out some tags"},
	"IdempotentParameterMismatch":       {providers.ErrConflict, "the token belongs to another request"},
	"ConflictException":                 {providers.ErrConflict, "the token belongs to another request"},
	"VolumeInUse":                       {providers.ErrConflict, ""},
	"IncorrectState":                    {providers.ErrConflict, ""},
	"IncorrectInstanceState":            {providers.ErrConflict, ""},
	"InvalidSnapshot.InUse":             {providers.ErrConflict, ""},
	"InvalidIPAddress.InUse":            {providers.ErrConflict, "something else has this address: take that away, or choose another"},
	"InvalidAMIName.Duplicate":          {providers.ErrConflict, ""},
	"DependencyViolation":               {providers.ErrConflict, ""},
	"RequestLimitExceeded":              {providers.ErrTryAgain, "the account's calls are throttled"},
	"RequestThrottledException":         {providers.ErrTryAgain, "the account's calls are throttled"},
	"Throttling":                        {providers.ErrTryAgain, "the account's calls are throttled"},
	"ThrottlingException":               {providers.ErrTryAgain, "the account's calls are throttled"},
	"ConcurrentLimitExceededException":  {providers.ErrTryAgain, "too many snapshots are being written"},
	"InsufficientInstanceCapacity":      {providers.ErrTryAgain, "there is no room for this type in this zone now: wait, or choose another type or a network in another zone"},
	"InsufficientVolumeCapacity":        {providers.ErrTryAgain, "there is no room for volumes in this zone now"},
	"InternalError":                     {providers.ErrTryAgain, ""},
	"InternalFailure":                   {providers.ErrTryAgain, ""},
	"InternalServerException":           {providers.ErrTryAgain, ""},
	"Unavailable":                       {providers.ErrTryAgain, ""},
	"ServiceUnavailable":                {providers.ErrTryAgain, ""},
	"ResourceNotFoundException":         {providers.ErrNotFound, ""},
	"InvalidInstanceType":               {providers.ErrNotFound, "there is no such instance type in this region"},
	"Unsupported":                       {providers.ErrInvalid, "choose another instance type, or a network in a zone that offers it"},
	"ValidationException":               {providers.ErrInvalid, ""},
}

// words of codes whose prefix says what is not there.
const notFound = ".NotFound"

// wrap classifies what a call of the SDK returned and says what was done. Contexts that ended stay recognisable.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", what, err)
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		c := classify(api.ErrorCode(), status(err))
		text := fmt.Sprintf("%s: %s", api.ErrorCode(), oneLine(api.ErrorMessage()))
		if errors.Is(c.err, providers.ErrDenied) {
			text = fmt.Sprintf("%s: %s", action(err), text)
		}
		if c.next != "" {
			text += "; " + c.next
		}
		return fmt.Errorf("%s: %w: %s", what, c.err, text)
	}
	var exceeded ratelimit.QuotaExceededError
	var network net.Error
	var sent *smithy.OperationError
	switch {
	case status(err) >= 500, errors.As(err, &exceeded), errors.As(err, &network) && status(err) == 0:
		return fmt.Errorf("%s: %w: %s", what, providers.ErrTryAgain, oneLine(err.Error()))
	case strings.Contains(err.Error(), "get identity: get credentials"), strings.Contains(err.Error(), "failed to refresh cached credentials"):
		return fmt.Errorf("%s: %w: no usable credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or run on an instance with a role: %s", what, providers.ErrDenied, oneLine(err.Error()))
	case errors.As(err, &sent):
		return fmt.Errorf("%s: %w: %s", what, providers.ErrTryAgain, oneLine(err.Error()))
	}
	return fmt.Errorf("%s: %w", what, err)
}

func classify(code string, status int) class {
	if c, ok := classes[code]; ok {
		return c
	}
	switch {
	case strings.HasSuffix(code, notFound), strings.HasSuffix(code, ".Malformed"):
		return class{providers.ErrNotFound, ""}
	case strings.Contains(code, "LimitExceeded"):
		return class{providers.ErrQuota, "ask for more in Service Quotas"}
	case strings.Contains(code, "Throttl"), status >= 500, status == http.StatusTooManyRequests:
		return class{providers.ErrTryAgain, ""}
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return class{providers.ErrDenied, ""}
	}
	return class{providers.ErrInvalid, ""}
}

// code is a service's own code of an error, or empty.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func status(err error) int {
	var r *awshttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

// action is what a policy calls the call that failed: the innermost one, since getting credentials calls, too.
func action(err error) string {
	name := ""
	for {
		var op *smithy.OperationError
		if !errors.As(err, &op) {
			return name
		}
		name, err = strings.ToLower(op.ServiceID)+":"+op.OperationName, op.Err
	}
}

// most of a message that is passed on: services are not trusted with more.
const maxMessage = 600

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), maxMessage)]
}

func missing(what, id string) error {
	return fmt.Errorf("%s %.80q: %w", what, id, providers.ErrNotFound)
}
