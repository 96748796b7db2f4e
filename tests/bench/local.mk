# make bench
EXTRA_PROGRAMS += tests/bench/bench
tests_bench_bench_SOURCES = tests/bench/bench.c
tests_bench_bench_LDADD = kernels/libcore.la -lm
CLEANFILES += tests/bench/bench$(EXEEXT)

.PHONY: bench
bench: tests/bench/bench$(EXEEXT)
	./tests/bench/bench$(EXEEXT) $(BENCH_ARGS)
EXTRA_DIST += tests/bench/RESULTS.md

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
