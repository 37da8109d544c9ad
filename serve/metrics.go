package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"postern/guard"
	"postern/internal/deliver"
	"postern/internal/queue"
)

// metrics are the relay's counters. No address, user or domain is a label: a
// metric must not tell what mail is private about, nor grow with strangers.
type metrics struct {
	registry       *prometheus.Registry
	sessions       *prometheus.CounterVec
	refused        *prometheus.CounterVec
	grants         *prometheus.CounterVec
	logins         *prometheus.CounterVec
	messages       *prometheus.CounterVec
	bytes          *prometheus.CounterVec
	commit         prometheus.Histogram
	auditClosed    prometheus.Gauge
	auditAt        prometheus.Gauge
	strangerGrants prometheus.Counter
	forwarded      prometheus.Counter
	reloads        *prometheus.CounterVec
	deliveries     *prometheus.CounterVec
	deliverySecs   prometheus.Histogram
	breakouts      prometheus.Counter
	listeners      prometheus.Gauge
	withdrawn      prometheus.Counter
	unheard        prometheus.Counter
	suspended      prometheus.Gauge
	tunnels        prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_" + name, Help: help})
		m.registry.MustRegister(g)
		return g
	}
	m.sessions = counter("sessions_total", "Sessions, by listener and how they ended.", "listener", "result")
	m.refused = counter("refused_total", "Refusals, by reason.", "reason")
	m.grants = counter("grants_total", "Recipients of stored messages, by reason of their grant.", "reason")
	m.logins = counter("logins_total", "Logins, by result.", "result")
	m.messages = counter("messages_total", "Messages that came to their end of data with a recipient, by result.", "result")
	m.bytes = counter("bytes_total", "Octets of messages.", "direction", "door")
	m.reloads = counter("reloads_total", "Reloads of the configuration, by result.", "result")
	m.deliveries = counter("deliveries_total", "Attempts at deliveries, by result and why a server said no.", "result", "class")
	m.auditClosed = gauge("audit_closed", "1 while the last self-audit found the relay closed.")
	m.auditAt = gauge("audit_timestamp_seconds", "When the last self-audit began.")
	m.tunnels = gauge("tunnels", "Tunnels that are open.")
	m.suspended = gauge("suspended_clients", "Trusted clients that are trusted no more, until a reload.")
	m.listeners = gauge("listeners", "Listeners in force.")
	m.commit = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "postern_commit_seconds", Help: "From the end of a message to its being on disk.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
	})
	m.deliverySecs = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "postern_delivery_seconds", Help: "From the acceptance of a message to its delivery.",
		Buckets: []float64{.01, .05, .1, .5, 1, 5, 30, 60, 300, 1800, 3600, 14400, 86400},
	})
	m.strangerGrants = prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_stranger_grants_total", Help: "Strangers' messages relayed to others: 0 for ever."})
	m.forwarded = prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_alias_forwards_total", Help: "Foreign addresses to which aliases forwarded strangers' messages, in our own name."})
	m.breakouts = prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_breakouts_total", Help: "Identities that began to send far more than they are used to."})
	m.withdrawn = prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_trust_withdrawn_total", Help: "Trusted clients that lost their trust: others seem to hide behind their addresses."})
	m.unheard = prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_accept_failures_total", Help: "Clients that could not be let in, mostly for want of descriptors."})
	m.registry.MustRegister(m.unheard, m.commit, m.deliverySecs, m.strangerGrants, m.forwarded, m.breakouts, m.withdrawn)
	return m
}

// note counts what the guard saw.
func (m *metrics) note(e guard.Event) {
	switch e.Kind {
	case guard.Refused:
		m.refused.WithLabelValues(e.Cause).Inc()
	case guard.Accepted:
		m.messages.WithLabelValues("stored").Inc()
		m.bytes.WithLabelValues("in", "smtp").Add(float64(e.Size))
		m.commit.Observe(e.Took.Seconds())
		for _, g := range e.Grants {
			m.grants.WithLabelValues(g.Reason().String()).Inc()
		}
	case guard.NotStored:
		m.messages.WithLabelValues("not_stored").Inc()
	case guard.Held:
		m.messages.WithLabelValues("held").Inc()
	case guard.LoggedIn:
		m.logins.WithLabelValues("ok").Inc()
	case guard.LoginFailed:
		m.logins.WithLabelValues("refused").Inc()
	case guard.Closed:
		result := "quit"
		if e.Err != nil {
			result = "ended"
		}
		m.sessions.WithLabelValues(e.Listener, result).Inc()
	case guard.Connected, guard.Withdrawn, guard.OverBudget, guard.Carried:
	}
}

// tunnel counts what a gateway did.
func (m *metrics) tunnel(e guard.TunnelEvent) {
	switch e.Kind {
	case guard.Refused:
		m.refused.WithLabelValues(e.Cause).Inc()
	case guard.Accepted:
		m.tunnels.Inc()
	case guard.Closed:
		m.tunnels.Dec()
		m.carried(e)
	case guard.Carried:
		m.carried(e)
	case guard.LoginFailed:
		m.logins.WithLabelValues("refused").Inc()
	case guard.Connected, guard.NotStored, guard.LoggedIn, guard.Withdrawn, guard.Held, guard.OverBudget: // a gateway has none of these
	}
}

func (m *metrics) carried(e guard.TunnelEvent) {
	m.bytes.WithLabelValues("out", "gateway").Add(float64(e.Fresh.Up))
	m.bytes.WithLabelValues("in", "gateway").Add(float64(e.Fresh.Down))
}

// delivered counts what became of a delivery.
func (m *metrics) delivered(e deliver.Event) {
	m.deliveries.WithLabelValues(e.State.String(), e.Class).Inc()
	if e.State == queue.Delivered {
		m.bytes.WithLabelValues("out", "smtp").Add(float64(e.Size))
		m.deliverySecs.Observe(max(0, e.At.Sub(e.Origin.At).Seconds()))
	}
}

func (m *metrics) audited(a *Audited) {
	m.auditAt.Set(float64(a.At.Unix()))
	m.auditClosed.Set(0)
	if a.Closed() {
		m.auditClosed.Set(1)
	}
}

func (m *metrics) generation(g *generation) { m.listeners.Set(float64(len(g.settings.Listeners))) }

func (m *metrics) reloaded(err error) {
	result := "ok"
	if err != nil {
		result = "refused"
	}
	m.reloads.WithLabelValues(result).Inc()
}

// queueCollector asks the queue when it is asked.
type queueCollector struct {
	desk             queue.Desk
	messages, oldest *prometheus.Desc
}

func newQueueCollector(d queue.Desk) *queueCollector {
	return &queueCollector{
		desk:     d,
		messages: prometheus.NewDesc("postern_queue_messages", "Messages in the queue, by state.", []string{"state"}, nil),
		oldest:   prometheus.NewDesc("postern_queue_oldest_seconds", "Age of the oldest message in the queue.", nil, nil),
	}
}

// Describe names the metrics of the queue.
func (c *queueCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.messages; ch <- c.oldest }

// Collect asks the queue for its numbers.
func (c *queueCollector) Collect(ch chan<- prometheus.Metric) {
	stats, err := c.desk.Stats(context.Background())
	if err != nil {
		return
	}
	for _, state := range queue.States() {
		ch <- prometheus.MustNewConstMetric(c.messages, prometheus.GaugeValue, float64(stats.Messages[state]), state.String())
	}
	age := 0.0
	if !stats.Oldest.IsZero() {
		age = max(0, time.Since(stats.Oldest).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, age)
}

// metricsPages are /metrics and /healthz.
func (r *Relay) metricsPages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, q *http.Request) {
		if err := errors.Join(r.queue.Room(0), r.Healthy(q.Context())); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
		if ails := r.ails(); ails != "" {
			fmt.Fprintln(w, ails)
		}
	})
	return mux
}

// serveHTTP serves until ctx ends.
func (r *Relay) serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(r.o.Log.Handler(), slog.LevelDebug), // its own would write past our log
	}
	defer context.AfterFunc(ctx, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(last) // what does not end by then is cut off
	})()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
