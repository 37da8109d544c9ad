# Measurements; the tests are ./test.
.PHONY: bench
bench:
	bench/engine/run
	bench/check/run
	bench/serve/run
	bench/relay/run
	bench/gateway/run
