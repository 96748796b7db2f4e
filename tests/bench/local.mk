# What the benchmarks of the core share. Their models lie in bench-model/ of the build folder until `make clean`, llama.cpp in
# bench-peer-venv/ until `make distclean`.
bench_parts = tests/bench/measure.c tests/bench/measure.h tests/bench/model.c tests/bench/model.h tests/kernels/gguf_spread.h
EXTRA_DIST += tests/bench/RESULTS.md
clean-local:
	rm -rf bench-model
distclean-local:
	rm -rf bench-peer-venv

# make bench
EXTRA_PROGRAMS += tests/bench/bench
tests_bench_bench_SOURCES = tests/bench/bench.c tests/bench/peak.c tests/bench/peak.h $(bench_parts)
tests_bench_bench_LDADD = kernels/libcore.la -lm
CLEANFILES += tests/bench/bench$(EXEEXT)

.PHONY: bench
bench: tests/bench/bench$(EXEEXT)
	./tests/bench/bench$(EXEEXT) $(BENCH_ARGS)

# make bench-start: the second start off the packed cache, and what memory it takes
.PHONY: bench-start
bench-start: tests/bench/bench$(EXEEXT) all-am
	./tests/bench/bench$(EXEEXT) -n -q bf16
	$(TESTS_ENVIRONMENT) $(TEST_PYTHON) $(srcdir)/tests/daemon/start_time.py --model bench-model/BF16.gguf $(BENCH_ARGS)

# make bench-peer: the core beside llama.cpp; WEFT_CPU=avx512 or avx2 in the environment holds both to these instructions
EXTRA_PROGRAMS += tests/bench/bench_peer
tests_bench_bench_peer_SOURCES = tests/bench/bench_peer.c $(bench_parts)
tests_bench_bench_peer_LDADD = kernels/libcore.la -lm
CLEANFILES += tests/bench/bench_peer$(EXEEXT) bench-peer.log
EXTRA_DIST += tests/bench/bench_peer.sh tests/bench/peer.py

.PHONY: bench-peer
bench-peer: tests/bench/bench_peer$(EXEEXT)
	$(TESTS_ENVIRONMENT) $(SHELL) $(srcdir)/tests/bench/bench_peer.sh $(BENCH_ARGS)

# make bench-end-to-end: what reaches clients of the core's speed
EXTRA_PROGRAMS += tests/bench/end_to_end
tests_bench_end_to_end_SOURCES = tests/bench/end_to_end.c $(bench_parts)
tests_bench_end_to_end_LDADD = client/libweft.la kernels/libcore.la -lm
CLEANFILES += tests/bench/end_to_end$(EXEEXT)

.PHONY: bench-end-to-end
bench-end-to-end: tests/bench/end_to_end$(EXEEXT) all-am
	./tests/bench/end_to_end$(EXEEXT) $(BENCH_ARGS)

# make bench-checkpoints: what P2 costs the engine
EXTRA_PROGRAMS += tests/bench/checkpoints
tests_bench_checkpoints_SOURCES = tests/bench/checkpoints.c
tests_bench_checkpoints_LDADD = daemon/libengine.la
CLEANFILES += tests/bench/checkpoints$(EXEEXT)

.PHONY: bench-checkpoints
bench-checkpoints: tests/bench/checkpoints$(EXEEXT) all-am
	./tests/bench/checkpoints$(EXEEXT) -m $(top_srcdir)/tests/demo/model $(BENCH_ARGS)

# make bench-store: the durable store, on SQLite and PostgreSQL
EXTRA_PROGRAMS += tests/bench/store_bench
tests_bench_store_bench_SOURCES = tests/bench/store_bench.c
tests_bench_store_bench_LDADD = tests/daemon/libstorekit.la daemon/libstore.la
CLEANFILES += tests/bench/store_bench$(EXEEXT)
EXTRA_DIST += tests/bench/store_bench.sh

.PHONY: bench-store
bench-store: tests/bench/store_bench$(EXEEXT)
	$(TESTS_ENVIRONMENT) $(SHELL) $(srcdir)/tests/bench/store_bench.sh $(BENCH_ARGS)
