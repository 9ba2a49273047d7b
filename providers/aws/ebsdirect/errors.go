package ebsdirect

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/openmigrate/openmigrate/providers"
)

// fault is what an error of the service means.
type fault struct {
	err       error // with one of the providers' classes and the next step
	again     bool  // it may pass
	throttled bool
	own       bool // the snapshot's rate rather than the account's
}

// classify reads an error. The codes are those of
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_PutSnapshotBlock.html#API_PutSnapshotBlock_Errors and CommonErrors.html.
func (c *Client) classify(k *call, err error) fault {
	say := func(class error, next string) error { return fmt.Errorf("%s: %w: %w; %s", k.action, class, err, next) }
	var api smithy.APIError
	if !errors.As(err, &api) {
		var send *smithyhttp.RequestSendError
		var resp *smithyhttp.ResponseError
		if errors.As(err, &send) || errors.As(err, &resp) {
			return fault{err: say(providers.ErrTryAgain, "check that the EBS endpoint of the region can be reached from this host"), again: true}
		}
		return fault{err: say(providers.ErrDenied, "give this host a role or credentials, and a region")}
	}
	switch code := api.ErrorCode(); code {
	case "RequestThrottledException", "ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded", "SlowDown", "TooManyRequestsException":
		var t *types.RequestThrottledException
		own := errors.As(err, &t) && t.Reason == types.RequestThrottledExceptionReasonResourceLevelThrottle
		return fault{err: say(providers.ErrTryAgain, "something else uses the account's quota of EBS direct calls: lower this host's part of it, or have the quota raised"),
			again: true, throttled: true, own: own}
	case "ConcurrentLimitExceededException":
		return fault{err: say(providers.ErrTryAgain, "too many snapshots are pending in the account: complete or delete some"), again: true}
	case "InternalServerException", "InternalFailure", "InternalError", "ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException":
		return fault{err: say(providers.ErrTryAgain, "repeat it later"), again: true}
	case "AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure",
		"ExpiredTokenException", "ExpiredToken", "InvalidSignatureException", "SignatureDoesNotMatch", "OptInRequired", "NotAuthorized", "MissingAuthenticationToken",
		"MissingAuthenticationTokenException", "IncompleteSignature", "RequestExpired":
		return fault{err: say(providers.ErrDenied, deniedHint(k.action, code, err))}
	case "ServiceQuotaExceededException":
		return fault{err: say(providers.ErrQuota, "the account has no room for another snapshot: delete some, or have the quota raised")}
	case "ResourceNotFoundException":
		return c.notFound(k, err, say)
	case "ConflictException":
		if k.action == actionStart {
			return fault{err: say(providers.ErrConflict, "the client token was used for another snapshot")}
		}
		return fault{err: say(ErrGone, "it is not pending any more")}
	case "ValidationException":
		return validation(k, err, say)
	}
	if api.ErrorFault() == smithy.FaultServer {
		return fault{err: say(providers.ErrTryAgain, "repeat it later"), again: true}
	}
	return fault{err: say(providers.ErrInvalid, "this is an answer that this version does not know")}
}

// notFound: what was just made may not be seen yet, and what was seen may be cancelled.
func (c *Client) notFound(k *call, err error, say func(error, string) error) fault {
	var t *types.ResourceNotFoundException
	if errors.As(err, &t) && t.Reason == types.ResourceNotFoundExceptionReasonDependencyResourceNotFound {
		return fault{err: say(providers.ErrNotFound, "the KMS key does not exist in this region or is not to be used")}
	}
	if k.snapshot == nil {
		return fault{err: say(providers.ErrNotFound, "the parent snapshot is gone: the next one must be a full one")}
	}
	if c.o.Clock.Now().Sub(k.snapshot.Started) < visible {
		return fault{err: say(ErrGone, "it was started just now and cannot be found"), again: true}
	}
	return fault{err: say(ErrGone, "the service cancels snapshots that nobody writes to")}
}

func validation(k *call, err error, say func(error, string) error) fault {
	var t *types.ValidationException
	if !errors.As(err, &t) {
		return fault{err: say(providers.ErrInvalid, "the request cannot succeed as it is")}
	}
	switch t.Reason {
	case types.ValidationExceptionReasonConflictingBlockUpdate, types.ValidationExceptionReasonWriteRequestTimeout:
		return fault{err: say(providers.ErrTryAgain, "repeat it later"), again: true}
	case types.ValidationExceptionReasonInvalidCustomerKey:
		return fault{err: say(providers.ErrInvalid, "the KMS key is disabled, of the wrong kind, or not to be used by this role: enable it or name another")}
	case types.ValidationExceptionReasonInvalidSnapshotId:
		if k.snapshot != nil {
			return fault{err: say(ErrGone, "it is not pending any more")}
		}
	case types.ValidationExceptionReasonInvalidVolumeSize:
		return fault{err: say(providers.ErrInvalid, "a snapshot is at least as large as its parent, and at most 64 TiB")}
	}
	return fault{err: say(providers.ErrInvalid, "the request cannot succeed as it is")}
}

func deniedHint(action, code string, err error) string {
	var t *types.AccessDeniedException
	switch {
	case code == "ExpiredTokenException" || code == "ExpiredToken":
		return "the credentials have expired: renew them, or use a role"
	case errors.As(err, &t) && t.Reason == types.AccessDeniedExceptionReasonDependencyAccessDenied:
		return "the role lacks a right on the KMS key of the snapshot"
	case code == "AccessDeniedException" || code == "AccessDenied" || code == "UnauthorizedOperation":
		return "allow the action " + action + " to this role (deploy/aws has the policies)"
	}
	return "check the credentials, the region and this host's clock"
}
