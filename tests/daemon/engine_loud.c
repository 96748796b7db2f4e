/* The tutorial's loud, for a real engine. (tests/plugins/example is a program's name in the build tree, so no object can lie there.) */
#include "tests/plugins/example/loud.c"
