#!/bin/sh
# What ptxas said when weft-cuda.so was built: every kernel is there for every device, and none of the hot ones spills registers.
# Not hot: attention for heads of 256 (template argument 8), which holds more sums than an SM has registers for.
set -eu
set -- "$top_builddir"/kernels/ops/*.nvo.ptxas
[ -f "$1" ] || { echo "SKIP: built without nvcc"; exit 77; }
awk '
	/Compiling entry function/ { split($0, p, "\047"); kernel = p[2]; device = p[4]; seen[kernel]++; devices[device] = 1 }
	/bytes spill stores/ {
		match($0, /[0-9]+ bytes spill stores/)
		spilled = substr($0, RSTART, RLENGTH) + 0
		hot = kernel !~ /(generated|prompt)ILi8E/
		if (spilled) printf "%s %s, %s: %d bytes spilled\n", hot ? "FAIL" : "note", kernel, device, spilled
		bad += hot && spilled
	}
	/Used [0-9]+ registers/ {
		match($0, /Used [0-9]+/)
		r = substr($0, RSTART + 5, RLENGTH - 5) + 0
		if (r > most[kernel]) most[kernel] = r
	}
	END {
		for (d in devices) n++
		for (k in seen) {
			kernels++
			if (seen[k] != n) { printf "FAIL %s: for %d of %d devices\n", k, seen[k], n; bad++ }
		}
		printf "%d kernels for %d devices\n", kernels, n
		for (k in most) printf "%4d registers  %s\n", most[k], k | "sort"
		exit bad || kernels < 30 ? 1 : 0
	}' "$@"
