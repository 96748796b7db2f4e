/* unit.h: what every cmocka test includes. */
#ifndef WEFT_TESTS_DAEMON_UNIT_H
#define WEFT_TESTS_DAEMON_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#endif
