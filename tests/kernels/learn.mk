# tests of kernels/learn
learn_tests = tests/kernels/learn_gradient tests/kernels/learn_check tests/kernels/learn_weights

if CMOCKA
check_PROGRAMS += $(learn_tests)
TESTS += $(learn_tests)
endif

learn_test_headers = tests/kernels/learn_double.h tests/kernels/core_double.h tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_learn_gradient_SOURCES = tests/kernels/learn_gradient.c tests/kernels/gguf_model.h tests/kernels/gguf_build.h \
	tests/kernels/ops_test.h $(learn_test_headers)
tests_kernels_learn_gradient_CPPFLAGS = $(core_test_cppflags)
tests_kernels_learn_gradient_LDADD = kernels/liblearn.la $(core_test_ldadd)
tests_kernels_learn_check_SOURCES = tests/kernels/learn_check.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_learn_check_CPPFLAGS = $(core_test_cppflags)
tests_kernels_learn_check_LDADD = kernels/liblearn.la $(core_test_ldadd)
tests_kernels_learn_check_LDFLAGS = -Wl,--wrap=blend_factor
tests_kernels_learn_weights_SOURCES = tests/kernels/learn_weights.c tests/kernels/adapter_test.h tests/kernels/core_test.h
tests_kernels_learn_weights_CPPFLAGS = $(core_test_cppflags) $(JANSSON_CFLAGS)
tests_kernels_learn_weights_LDADD = kernels/liblearn.la $(core_test_ldadd) $(JANSSON_LIBS)
