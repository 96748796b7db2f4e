#!/bin/sh
# The header is clean in each language that plugins are written in, and each module exports weft_plugin alone and needs libc and libm alone.
set -eu
: "${top_srcdir:?run me by make check}" "${top_builddir:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
header=$top_srcdir/plugins/weft-plugin.h
cat >"$work/use.c" <<EOF
#include "$header"
static const struct weft_plugin plugin = {sizeof(struct weft_plugin), WEFT_ABI, "x", "1", "d", NULL, 0, NULL, NULL, NULL, NULL};
const struct weft_plugin *weft_plugin(void)
{
	return WEFT_HAS(&plugin, fini) ? &plugin : NULL;
}
EOF
cp "$work/use.c" "$work/use.cc"
cp "$work/use.c" "$work/use.cu"
said() { echo "$*"; "$@" || exit 1; }

said ${CC:-cc} -std=c11 -Wall -Wextra -pedantic -Werror -c -o "$work/c.o" "$work/use.c"
for cxx in "${CXX:-c++}" clang++; do
	command -v "${cxx%% *}" >/dev/null || continue
	said $cxx -std=c++17 -Wall -Wextra -pedantic -Werror -c -o "$work/cc.o" "$work/use.cc"
done
if command -v clang >/dev/null; then
	said clang -std=c11 -Wall -Wextra -pedantic -Werror -c -o "$work/clang.o" "$work/use.c"
fi
nvcc=$(PATH=$PATH:/usr/local/cuda/bin command -v nvcc || true)
echo 'int main() { return 0; }' >"$work/probe.cu"
if [ -n "$nvcc" ] && "$nvcc" -c -o "$work/probe.o" "$work/probe.cu" 2>/dev/null; then
	said "$nvcc" -std=c++17 -Xcompiler -Wall,-Wextra,-Werror -Werror all-warnings -c -o "$work/cu.o" "$work/use.cu"
else
	echo "no working nvcc: not tried"
fi

bad=0 n=0
for so in "$top_builddir"/plugins/.libs/*.so; do
	n=$((n + 1))
	symbols=$(nm -D --defined-only "$so" | awk '{ print $3 }' | grep -Ev '^(_init|_fini|_edata|_end|__bss_start|__odr_asan.*)$' | sort)
	[ "$symbols" = weft_plugin ] || { echo "$so exports: $symbols"; bad=1; }
	needs=$(readelf -d "$so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -Ev '^lib(c|m|gcc_s|asan|ubsan)\.so' || true)
	[ -z "$needs" ] || { echo "$so needs: $needs"; bad=1; }
done
[ "$n" -ge 14 ] || { echo "only $n modules in plugins/.libs"; bad=1; }
exit $bad
