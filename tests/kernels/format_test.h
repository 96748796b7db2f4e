/* format_test.h: what the tests of kernels/format and the tokenizer include. */
#ifndef WEFT_FORMAT_TEST_H
#define WEFT_FORMAT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "kernels/format/checkpoint.h"

#endif
