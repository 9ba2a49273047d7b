package api

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/openmigrate/openmigrate/master/store"
	"github.com/openmigrate/openmigrate/wire"
)

// A request that makes something may carry a key of the caller's choice. The first with that key is done, and its answer kept; the same request again gets that
// answer, and nothing is made. Answers may hold secrets that are shown once, so they are sealed with the caller's credentials and key: the database alone
// opens none.
const (
	tableKeys     = "idempotency"       // SHA-256 of caller and key, hexadecimal → keyRow
	tableKeyOrder = "idempotency_order" // time of creation u64, key of tableKeys → nothing

	keyLife     = 24 * time.Hour
	maxKeys     = 10_000
	maxKept     = 256 << 10 // bytes of an answer that is kept
	keysPerTick = 64        // old ones that one transaction removes
)

type Idempotent struct {
	Key string `header:"Idempotency-Key" maxLength:"200" doc:"Any text, best a random one: the same request with the same key within a day makes nothing again, and gets the first answer."`
}

// keyRow is what is known of a request with a key.
type keyRow struct {
	Request []byte    `json:"request"` // SHA-256 of method, path and body
	Created time.Time `json:"created"`
	Boot    string    `json:"boot"`             // of the process that did it
	Done    bool      `json:"done,omitempty"`   //
	Status  int       `json:"status,omitempty"` // of the answer
	Sealed  []byte    `json:"sealed,omitempty"` // keptAnswer; empty: too large to keep
}

// keptAnswer is an answer that can be given again.
type keptAnswer struct {
	Header map[string]string `json:"header"`
	Body   []byte            `json:"body"`
}

// keeper keeps answers.
type keeper struct {
	once sync.Once
	boot string

	mu    sync.Mutex
	count int // guarded by mu; rows, -1: not counted yet
}

// sealSecret is what answers for a bearer are sealed with. It does not follow from what the database knows of the token.
func sealSecret(credential string) [32]byte {
	m := hmac.New(sha256.New, []byte("openmigrate answers by idempotency key"))
	m.Write([]byte(credential))
	return [32]byte(m.Sum(nil))
}

// inner is a name under which the interface can be embedded: it has a method Context.
type inner = huma.Context

// captured is a context whose answer is kept beside being sent.
type captured struct {
	inner
	status int
	body   bytes.Buffer
	header map[string]string
}

func (c *captured) SetStatus(code int) { c.status = code }
func (c *captured) SetHeader(name, value string) {
	c.header[name] = value
	c.inner.SetHeader(name, value)
}
func (c *captured) BodyWriter() io.Writer { return &c.body }

// Unwrap lets adapters find what they made.
func (c *captured) Unwrap() huma.Context { return c.inner }

// WithContext implements what huma.WithContext asks for.
func (c *captured) WithContext(ctx context.Context) huma.Context {
	c.inner = huma.WithContext(c.inner, ctx)
	return c
}

// once does a request with a key at most once.
func (s *server) once(o *op) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		key := ctx.Header(wire.HeaderIdempotencyKey)
		if key == "" || len(key) > wire.MaxKeyText { // the document has the limit, too, so that one is refused
			next(ctx)
			return
		}
		r, w := humachi.Unwrap(ctx)
		refuse := func(err error) {
			writeProblem(w, s.problem(r.Context(), failed{path: o.path, caller: person(r.Context()).String(), limit: o.body, public: true}, err))
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, o.body))
		if err != nil {
			refuse(bodyProblem(err))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		k := newRequestKey(person(ctx.Context()), key, r, body)
		answer, row, err := s.recall(ctx.Context(), k)
		switch {
		case err != nil:
			refuse(err)
			return
		case answer != nil:
			for name, v := range answer.Header {
				ctx.SetHeader(name, v)
			}
			ctx.SetHeader(wire.HeaderReplayed, "true")
			ctx.SetStatus(row.Status)
			_, _ = ctx.BodyWriter().Write(answer.Body) // the caller may be gone
			return
		}
		c := &captured{inner: ctx, header: map[string]string{}}
		finished := false
		defer func() {
			if !finished { // it panicked
				s.forget(context.WithoutCancel(r.Context()), k)
			}
		}()
		next(c)
		finished = true
		if c.status >= 200 && c.status < 300 {
			s.remember(context.WithoutCancel(r.Context()), k, c)
		} else {
			s.forget(context.WithoutCancel(r.Context()), k) // nothing was made: it may be tried again
		}
		ctx.SetStatus(c.status)
		_, _ = ctx.BodyWriter().Write(c.body.Bytes())
	}
}

// requestKey names a request of a caller.
type requestKey struct {
	id      string // in tableKeys
	request [32]byte
	seal    []byte
}

func newRequestKey(p *Principal, key string, r *http.Request, body []byte) *requestKey {
	sum := func(parts ...string) [32]byte {
		h := sha256.New()
		for _, part := range parts {
			fmt.Fprintf(h, "%d:%s", len(part), part)
		}
		return [32]byte(h.Sum(nil))
	}
	id := sum(p.Project, p.Holder(), key)
	seal, err := hkdf.Key(sha256.New, append(p.secret[:], key...), id[:], "openmigrate answer", 32)
	if err != nil { // only for lengths that no hash gives
		panic(err)
	}
	return &requestKey{id: hex.EncodeToString(id[:]), request: sum(r.Method, r.URL.RequestURI(), string(body)), seal: seal}
}

func (k *requestKey) aead() cipher.AEAD {
	block, err := aes.NewCipher(k.seal)
	if err == nil {
		var a cipher.AEAD
		if a, err = cipher.NewGCMWithRandomNonce(block); err == nil {
			return a
		}
	}
	panic(err) // a key of 32 bytes is always good
}

func (s *server) bootID() string {
	s.keys.once.Do(func() { s.keys.boot, s.keys.count = rand.Text(), -1 })
	return s.keys.boot
}

// recall returns the answer that the request got before, or takes note that it is being done.
func (s *server) recall(ctx context.Context, k *requestKey) (*keptAnswer, *keyRow, error) {
	boot, now := s.bootID(), time.Now().UTC()
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	var found *keyRow
	removed := 0
	err := s.DB.Update(ctx, func(w store.Writer) (err error) {
		found, removed = nil, 0
		if s.keys.count < 0 {
			n := 0
			if err := w.Scan(tableKeyOrder, nil, nil, func(_, _ []byte) error { n++; return nil }); err != nil {
				return err
			}
			s.keys.count = n
		}
		b, err := w.Get(tableKeys, []byte(k.id))
		if err == nil {
			row := &keyRow{}
			if err := json.Unmarshal(b, row); err != nil {
				return fmt.Errorf("read answer by idempotency key: %w", err)
			}
			if now.Sub(row.Created) < keyLife {
				found = row
				return nil
			}
			if err := w.Delete(tableKeyOrder, orderKey(row.Created, k.id)); err != nil {
				return err
			}
			removed++
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, err := pruneKeys(w, now, s.keys.count-removed)
		if err != nil {
			return err
		}
		removed += n
		return putKey(w, k.id, &keyRow{Request: k.request[:], Created: now, Boot: boot})
	})
	if err != nil {
		return nil, nil, err
	}
	if found == nil {
		s.keys.count += 1 - removed
		return nil, nil, nil
	}
	switch {
	case !bytes.Equal(found.Request, k.request[:]):
		return nil, nil, wire.NewProblem(http.StatusUnprocessableEntity, wire.CodeKeyReused, "this idempotency key was used for another request").WithNext("use a new key for a new request")
	case !found.Done && found.Boot == boot:
		return nil, nil, wire.NewProblem(http.StatusConflict, wire.CodeBusy, "the first request with this idempotency key is under way").WithNext("send it again in a moment")
	case !found.Done:
		return nil, nil, wire.NewProblem(http.StatusConflict, wire.CodeConflict, "the master was stopped while it did the first request with this idempotency key").
			WithNext("look whether it was done; if not, send it again with another key")
	case len(found.Sealed) == 0:
		return nil, nil, wire.NewProblem(http.StatusConflict, wire.CodeConflict, "the request was done, and its answer was too large to be kept").WithNext("read what it made")
	}
	plain, err := k.aead().Open(nil, nil, found.Sealed, []byte(k.id))
	answer := &keptAnswer{}
	if err == nil {
		err = json.Unmarshal(plain, answer)
	}
	if err != nil {
		return nil, nil, wire.NewProblem(http.StatusConflict, wire.CodeConflict, "the request was done with other credentials, which its answer is sealed with").WithNext("read what it made")
	}
	return answer, found, nil
}

// orderKey sorts rows by age.
func orderKey(created time.Time, id string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(created.UnixNano())), id...)
}

// pruneKeys removes rows that are too old, and the oldest when there are too many.
func pruneKeys(w store.Writer, now time.Time, count int) (int, error) {
	var old [][]byte
	err := w.Scan(tableKeyOrder, nil, nil, func(k, _ []byte) error {
		created := time.Unix(0, int64(binary.BigEndian.Uint64(k)))
		if len(old) >= keysPerTick || now.Sub(created) < keyLife && count-len(old) < maxKeys {
			return store.ErrStop
		}
		old = append(old, bytes.Clone(k))
		return nil
	})
	for _, k := range old {
		err = errors.Join(err, w.Delete(tableKeyOrder, k), w.Delete(tableKeys, k[8:]))
	}
	return len(old), err
}

func putKey(w store.Writer, id string, row *keyRow) error {
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	return errors.Join(w.Put(tableKeys, []byte(id), b), w.Put(tableKeyOrder, orderKey(row.Created, id), nil))
}

// remember keeps the answer to a request that made something.
func (s *server) remember(ctx context.Context, k *requestKey, c *captured) {
	err := s.changeKey(ctx, k, func(row *keyRow) error {
		row.Done, row.Status = true, c.status
		if c.body.Len() > maxKept {
			return nil
		}
		plain, err := json.Marshal(keptAnswer{Header: c.header, Body: c.body.Bytes()})
		row.Sealed = k.aead().Seal(nil, nil, plain, []byte(k.id))
		return err
	})
	if err != nil {
		s.Log.Error("an answer could not be kept by its idempotency key", "error", err)
	}
}

func (s *server) changeKey(ctx context.Context, k *requestKey, fn func(*keyRow) error) error {
	return s.DB.Update(ctx, func(w store.Writer) error {
		b, err := w.Get(tableKeys, []byte(k.id))
		if errors.Is(err, store.ErrNotFound) {
			return nil // it was pruned
		}
		row := &keyRow{}
		if err == nil {
			err = json.Unmarshal(b, row)
		}
		if err == nil {
			err = fn(row)
		}
		if err != nil {
			return err
		}
		return putKey(w, k.id, row)
	})
}

// forget drops the note of a request that made nothing.
func (s *server) forget(ctx context.Context, k *requestKey) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	gone := false
	err := s.DB.Update(ctx, func(w store.Writer) error {
		gone = false
		b, err := w.Get(tableKeys, []byte(k.id))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		row := &keyRow{}
		if err == nil {
			err = json.Unmarshal(b, row)
		}
		if err != nil {
			return err
		}
		gone = true
		return errors.Join(w.Delete(tableKeys, []byte(k.id)), w.Delete(tableKeyOrder, orderKey(row.Created, k.id)))
	})
	if err != nil {
		s.Log.Error("a request that failed keeps its idempotency key", "error", err)
	}
	if gone && err == nil {
		s.keys.count--
	}
}
