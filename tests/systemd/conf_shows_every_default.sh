#!/bin/sh
# systemd/weftd.conf names every option of weftd in its section, with its default, and weftd accepts it with each line uncommented.
set -eu
conf=$top_srcdir/systemd/weftd.conf
weftd=$top_builddir/daemon/weftd
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# "section option default" by --help, which is made from the table of options; a folder of the installation is not compared.
"$weftd" --help | awk '/^\[/ { section = $1 } /^  --/ && section { o = substr($1, 3); gsub("-", "_", o); d = $0; sub(/.*\(default: /, "", d);
	sub(/\)$/, "", d); if (d == "none" && o != "quant" && o != "store") d = ""; if (o == "plugins") d = "-"; print section, o, d }' | sed 's/ *$//' >"$dir/want"
awk '/^\[/ { section = $1 } /^#[a-z_]+ =/ { o = substr($1, 2); d = $0; sub(/^[^=]*= */, "", d); if (o == "plugins") d = "-"; print section, o, d }' "$conf" |
	sed 's/ *$//' >"$dir/have"
[ "$(wc -l <"$dir/want")" -gt 20 ] || { echo "FAIL: --help lists too few options"; exit 1; }
diff -u "$dir/want" "$dir/have" || { echo "FAIL: systemd/weftd.conf and weftd --help differ"; exit 1; }

"$weftd" -c "$conf" --model "$top_srcdir/tests/demo/model" --check-config
sed 's/^#\([a-z_]* =\)/\1/' "$conf" >"$dir/all.conf"
"$weftd" -c "$dir/all.conf" --model "$top_srcdir/tests/demo/model" --check-config
if echo 'colour = red' | cat "$conf" - >"$dir/bad.conf" && "$weftd" -c "$dir/bad.conf" --model "$top_srcdir/tests/demo/model" --check-config 2>"$dir/why"; then
	echo "FAIL: an unknown option was accepted"
	exit 1
fi
grep -q colour "$dir/why"
