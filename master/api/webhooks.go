package api

import (
	"context"
	"math"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/openmigrate/openmigrate/master/webhook"
	"github.com/openmigrate/openmigrate/wire"
)

func (s *server) registerWebhooks(api huma.API) {
	add(s, api, op{id: "list-webhooks", method: "GET", path: wire.PathWebhooks, tag: "webhooks", summary: "List webhooks"}, s.listWebhooks)
	add(s, api, op{id: "create-webhook", method: "POST", path: wire.PathWebhooks, tag: "webhooks", summary: "Have events sent to a URL",
		text: "By the rules of Standard Webhooks. The secret that deliveries are signed with is in the answer and nowhere else.", status: http.StatusCreated, creates: true}, s.createWebhook)
	add(s, api, op{id: "get-webhook", method: "GET", path: wire.PathWebhook, tag: "webhooks", summary: "Show a webhook"}, s.getWebhook)
	add(s, api, op{id: "change-webhook", method: "PUT", path: wire.PathWebhook, tag: "webhooks", summary: "Replace what a webhook is"}, s.changeWebhook)
	add(s, api, op{id: "remove-webhook", method: "DELETE", path: wire.PathWebhook, tag: "webhooks", summary: "Remove a webhook, with its deliveries"}, s.removeWebhook)
	add(s, api, op{id: "rotate-webhook", method: "POST", path: wire.PathWebhookRotate, tag: "webhooks", summary: "Give a webhook a new secret",
		text: "For a day deliveries are signed with the old one, too.", creates: true}, s.rotateWebhook)
	add(s, api, op{id: "test-webhook", method: "POST", path: wire.PathWebhookTest, tag: "webhooks", summary: "Send a test event", status: http.StatusAccepted, creates: true}, s.testWebhook)
	add(s, api, op{id: "list-deliveries", method: "GET", path: wire.PathDeliveries, tag: "webhooks", summary: "List a webhook's deliveries, newest first"}, s.listDeliveries)
	add(s, api, op{id: "resend-delivery", method: "POST", path: wire.PathResend, tag: "webhooks", summary: "Send a delivery again", status: http.StatusAccepted, creates: true}, s.resendDelivery)
}

// WebhookRef names a webhook.
type WebhookRef struct {
	Webhook string `path:"webhook" maxLength:"256"`
}

type webhookOut struct {
	ETag string `header:"ETag"`
	Body webhook.Hook
}

func answerWebhook(h *webhook.Hook) *webhookOut {
	return &webhookOut{ETag: etag(strconv.FormatUint(h.Revision, 10)), Body: *h}
}

func (s *server) listWebhooks(ctx context.Context, in *PageParams) (*pageOut[webhook.Hook], error) {
	list, err := s.Webhooks.List(ctx, person(ctx).Project)
	if err != nil {
		return nil, err
	}
	return listed(list, in, "-created", func(h *webhook.Hook) sortKey { return sortKey{Number: h.Created.UnixNano(), ID: h.ID} })
}

func specOf(q *wire.WebhookRequest) webhook.Spec {
	return webhook.Spec{URL: q.URL, Types: q.Types, Description: q.Description, Enabled: q.Enabled == nil || *q.Enabled}
}

type createWebhookIn struct {
	Idempotent
	Body wire.WebhookRequest
}

type newWebhook struct {
	webhook.Hook
	Secret string `json:"secret" doc:"With which deliveries are signed. It is shown this once."`
}

type newWebhookOut struct{ Body newWebhook }

func (s *server) createWebhook(ctx context.Context, in *createWebhookIn) (*newWebhookOut, error) {
	h, secret, err := s.Webhooks.Create(ctx, person(ctx).Project, specOf(&in.Body))
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "webhook", h.ID, h.URL, nil, h)
	return &newWebhookOut{newWebhook{*h, secret}}, nil
}

func (s *server) getWebhook(ctx context.Context, in *WebhookRef) (*webhookOut, error) {
	h, err := s.Webhooks.Get(ctx, person(ctx).Project, in.Webhook)
	if err != nil {
		return nil, err
	}
	return answerWebhook(h), nil
}

// ChangedWebhook names a webhook that something is done to.
type ChangedWebhook struct {
	WebhookRef
	Match
}

type changeWebhookIn struct {
	ChangedWebhook
	Body wire.WebhookRequest
}

func (s *server) changeWebhook(ctx context.Context, in *changeWebhookIn) (*webhookOut, error) {
	project := person(ctx).Project
	was, err := s.Webhooks.Get(ctx, project, in.Webhook)
	if err != nil {
		return nil, err
	}
	revision, err := in.number(was.Revision, true)
	if err != nil {
		return nil, err
	}
	h, err := s.Webhooks.Change(ctx, project, was.ID, revision, specOf(&in.Body))
	if err != nil {
		return nil, staleETag(err)
	}
	s.changed(ctx, "webhook", h.ID, h.URL, was, h)
	return answerWebhook(h), nil
}

func (s *server) removeWebhook(ctx context.Context, in *ChangedWebhook) (*struct{}, error) {
	project := person(ctx).Project
	was, err := s.Webhooks.Get(ctx, project, in.Webhook)
	if err != nil {
		return nil, err
	}
	revision, err := in.number(was.Revision, false)
	if err != nil {
		return nil, err
	}
	if err := s.Webhooks.Remove(ctx, project, was.ID, revision); err != nil {
		return nil, staleETag(err)
	}
	s.changed(ctx, "webhook", was.ID, was.URL, was, nil)
	return nil, nil
}

type webhookDo struct {
	WebhookRef
	Idempotent
}

func (s *server) rotateWebhook(ctx context.Context, in *webhookDo) (*newWebhookOut, error) {
	h, secret, err := s.Webhooks.Rotate(ctx, person(ctx).Project, in.Webhook)
	if err != nil {
		return nil, err
	}
	s.changed(ctx, "webhook", h.ID, h.URL, nil, map[string]any{"secret": "replaced"})
	return &newWebhookOut{newWebhook{*h, secret}}, nil
}

func (s *server) testWebhook(ctx context.Context, in *webhookDo) (*struct{}, error) {
	if err := s.Webhooks.Ping(ctx, person(ctx).Project, in.Webhook); err != nil {
		return nil, err
	}
	s.changed(ctx, "webhook", in.Webhook, "", nil, map[string]any{"tested": true})
	return nil, nil
}

type listDeliveriesIn struct {
	WebhookRef
	PageParams
	State []string `query:"state" maxItems:"4" doc:"Any of these: waiting, delivered, failed."`
}

func (s *server) listDeliveries(ctx context.Context, in *listDeliveriesIn) (*pageOut[webhook.Delivery], error) {
	list, err := s.Webhooks.Deliveries(ctx, person(ctx).Project, in.Webhook, 0, math.MaxInt)
	if err != nil {
		return nil, err
	}
	out := list[:0]
	for i := range list {
		if oneOf(in.State, list[i].State) {
			out = append(out, list[i])
		}
	}
	return listed(out, &in.PageParams, "-sequence", func(d *webhook.Delivery) sortKey { return sortKey{Number: int64(d.Sequence)} })
}

type resendIn struct {
	WebhookRef
	Idempotent
	Sequence uint64 `path:"sequence" doc:"Of the delivery."`
}

func (s *server) resendDelivery(ctx context.Context, in *resendIn) (*struct{}, error) {
	if err := s.Webhooks.Resend(ctx, person(ctx).Project, in.Webhook, in.Sequence); err != nil {
		return nil, err
	}
	s.changed(ctx, "webhook", in.Webhook, "", nil, map[string]any{"resent": in.Sequence})
	return nil, nil
}
