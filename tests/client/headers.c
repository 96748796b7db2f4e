/* The two public headers live in one program, and a C++ compiler takes them as well (headers_cxx.cc). */
#include "client/weft.h"
#include "plugins/weft-plugin.h"
#include <string.h>

int main(void)
{
	return strcmp(weft_client_version(), "") == 0;
}
