# make bench
EXTRA_PROGRAMS += tests/bench/bench
tests_bench_bench_SOURCES = tests/bench/bench.c
tests_bench_bench_LDADD = kernels/libcore.la -lm
CLEANFILES += tests/bench/bench$(EXEEXT)

.PHONY: bench
bench: tests/bench/bench$(EXEEXT)
	./tests/bench/bench$(EXEEXT) $(BENCH_ARGS)
EXTRA_DIST += tests/bench/RESULTS.md
