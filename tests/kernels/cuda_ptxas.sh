#!/bin/sh
# What ptxas said of the CUDA core (kernels/cuda.mk): every kernel is there for every device, and none of the hot ones has a stack frame or
# spills registers. Where weft-cuda.so itself has code for fewer devices, the others were compiled for this.
set -eu
devices="sm_80 sm_86 sm_89 sm_90"
# Every step runs these. Others: f32 models are for tests, pairs are made while loading, and attention for heads of 256 (template
# argument 8) holds more sums than an SM has registers for.
hot="add_parts draw embed embed_parts expand generated meet prepare prompt rmsnorm rope_store rope_store_int8 shrink swiglu temper thin wide"
others="generatedILi8E pair plain_f32 promptILi8E"

set -- "$top_builddir"/kernels/cuda/*.ptxas "$top_builddir"/kernels/ops/*.ptxas
[ -f "$1" ] || { echo "SKIP: built without nvcc"; exit 77; }
awk -v devices="$devices" -v hot="$hot" -v others="$others" '
	function is_in(word, list) { return index(" " list " ", " " word " ") }
	function kind(mangled) { # its name stands behind the length of it, then come template arguments
		n = substr(mangled, 3) + 0
		name = substr(mangled, 3 + length(n))
		for (i in other)
			if (index(name, other[i]) == 1) return "other"
		return is_in(substr(name, 1, n), hot) ? "hot" : "unknown"
	}
	BEGIN { n_devices = split(devices, device); split(others, other) }
	/Compiling entry function/ {
		split($0, p, "\047")
		kernel = p[2]; on = p[4]
		seen[kernel, on] = kernels[kernel] = 1
		if (kind(kernel) == "unknown") { printf "FAIL %s: is it hot? Say so in this file\n", kernel; bad++ }
	}
	/bytes stack frame/ {
		if ($1 + $5 + $9 == 0) next
		printf "%s %s, %s: %s\n", kind(kernel) == "hot" ? "FAIL" : "note", kernel, on, $0
		bad += kind(kernel) == "hot"
	}
	/Used [0-9]+ registers/ {
		match($0, /Used [0-9]+/)
		r = substr($0, RSTART + 5, RLENGTH - 5) + 0
		if (r > most[kernel]) most[kernel] = r
	}
	END {
		for (k in kernels) {
			count++
			for (i = 1; i <= n_devices; i++)
				if (!((k, device[i]) in seen)) { printf "FAIL %s: not compiled for %s\n", k, device[i]; bad++ }
		}
		printf "%d kernels for %s\n", count, devices
		for (k in most) printf "%4d registers  %s\n", most[k], k | "sort"
		exit bad || count < 30 ? 1 : 0
	}' "$@"
