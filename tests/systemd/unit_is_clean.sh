#!/bin/sh
# The service unit passes `systemd-analyze verify` without a word, and its exposure is 2.0 or lower.
set -eu
[ "$SYSTEMD_ANALYZE" != none ] || { echo "SKIP: systemd-analyze is not here"; exit 77; }
"$SYSTEMD_ANALYZE" security --help 2>/dev/null | grep -q -- --offline || { echo "SKIP: this systemd-analyze has no --offline"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# The program need not be installed for this: the unit runs the one that was just built.
sed "s|^ExecStart=[^ ]*|ExecStart=$top_builddir/daemon/weftd|" "$top_builddir/systemd/weftd.service" >"$dir/weftd.service"
grep -q '^ExecStart=/' "$dir/weftd.service"
if grep -n '@[a-z]*@' "$dir/weftd.service"; then echo "FAIL: a path was not filled in"; exit 1; fi

# libtool's wrapper script is an executable file, which is all that verify looks at.
said=$("$SYSTEMD_ANALYZE" verify --man=no "$dir/weftd.service" 2>&1) || { echo "FAIL: verify: $said"; exit 1; }
[ -z "$said" ] || { echo "FAIL: verify says: $said"; exit 1; }

line=$("$SYSTEMD_ANALYZE" --no-pager security --offline=true "$dir/weftd.service" | grep 'Overall exposure level')
echo "$line"
score=$(echo "$line" | sed 's/.*: \([0-9.]*\).*/\1/')
awk -v s="$score" 'BEGIN { exit !(s <= 2.0) }' || { echo "FAIL: exposure $score is over 2.0"; exit 1; }

# A unit with the sandbox taken out must not pass: the check above can fail.
grep -v '^\(Protect\|Restrict\|SystemCall\|CapabilityBoundingSet\|Private\|NoNew\|DynamicUser\|User\)' "$dir/weftd.service" >"$dir/open.service"
open=$("$SYSTEMD_ANALYZE" --no-pager security --offline=true "$dir/open.service" | grep 'Overall exposure level' | sed 's/.*: \([0-9.]*\).*/\1/')
awk -v s="$open" 'BEGIN { exit !(s > 2.0) }' || { echo "FAIL: a unit without sandbox scores $open"; exit 1; }
