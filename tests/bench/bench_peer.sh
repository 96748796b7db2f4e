#!/bin/sh
# bench_peer.sh [ARGS]: finds llama.cpp's Python package in a virtual environment of its own, or builds it there for this machine, and runs
# bench_peer with it. It is a tool of this benchmark alone: nothing of weft knows it. The folder is WEFT_PEER_VENV, else one under the build.
set -eu
version=0.3.36
venv=${WEFT_PEER_VENV:-$top_builddir/bench-peer-venv}
log=$top_builddir/bench-peer.log

if ! "$venv/bin/python" -c 'import llama_cpp' >/dev/null 2>&1; then
	echo "building llama-cpp-python $version in $venv: some minutes; $log tells how it goes" >&2
	if ! python3 -m venv "$venv" >"$log" 2>&1 ||
		! CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF ${CMAKE_ARGS:-}" "$venv/bin/python" -m pip install \
			--no-binary llama-cpp-python "llama-cpp-python==$version" >>"$log" 2>&1; then
		tail -n 5 "$log" >&2
		cat >&2 <<-END
			bench-peer: there is no peer to compare with. It comes from Python's package index: is the network there, with cmake and a C++
			compiler? Or name a virtual environment that has llama-cpp-python $version, built with -DGGML_NATIVE=ON: WEFT_PEER_VENV=FOLDER
		END
		exit 1
	fi
fi
exec "$top_builddir/tests/bench/bench_peer" "$@" -- "$venv/bin/python" "$top_srcdir/tests/bench/peer.py"
