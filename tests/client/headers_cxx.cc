// As headers.c, for C++.
#include "headers.c"
