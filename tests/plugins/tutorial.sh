#!/bin/sh
# The tutorial's plugins, taken from its text, build with the installed header and the tutorial's own cc line, and work.
set -eu
: "${top_srcdir:?run me by make check}" "${top_builddir:?}"
command -v pkg-config >/dev/null || { echo "no pkg-config here"; exit 77; }
tutorial=$top_srcdir/plugins/TUTORIAL.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Only what a plugin needs is installed; MAKEFLAGS belongs to the make that runs the tests.
(cd "$top_builddir" && MAKEFLAGS='' ${MAKE:-make} -s install-includeHEADERS install-pkgconfigDATA DESTDIR="$work/stage") >"$work/install.log" 2>&1 ||
	{ cat "$work/install.log"; exit 1; }
pc=$(find "$work/stage" -name weft-plugin.pc)
PKG_CONFIG_PATH=$(dirname "$pc") PKG_CONFIG_SYSROOT_DIR=$work/stage PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_ALLOW_SYSTEM_CFLAGS
case $(pkg-config --variable=plugindir weft-plugin) in
*/plugins) ;;
*) echo "weft-plugin.pc does not say where plugins are"; exit 1 ;;
esac

mkdir "$work/src"
cd "$work/src"
awk '/^```c [a-z_]+\.c$/ { file = $2; next } /^```$/ { file = ""; next } file { print > file }' "$tutorial"
for name in no_repeat_last loud; do
	cmp "$name.c" "$top_srcdir/tests/plugins/example/$name.c" || { echo "the tutorial's $name.c is not the example's"; exit 1; }
	line=$(grep "^cc .*-o $name.so $name.c$" "$tutorial") || { echo "the tutorial does not say how to build $name"; exit 1; }
	cc() { ${CC:-cc} -Wall -Wextra -Werror "$@"; }
	eval "$line"
	symbols=$(nm -D --defined-only "$name.so" | awk '$2 ~ /[A-Z]/ && $3 !~ /^(_init|_fini|_edata|_end|__bss_start)$/ { print $3 }')
	[ "$symbols" = weft_plugin ] || { echo "$name.so exports: $symbols"; exit 1; }
done
[ -x "$top_builddir/tests/plugins/example" ] || { echo "built, but not run: no cmocka"; exit 77; }
EXAMPLES=$work/src "$top_builddir/tests/plugins/example"
