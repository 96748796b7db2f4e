#!/bin/sh
# bench_peer.sh [ARGS]: builds llama.cpp, whose source comes with its Python package, in a folder of its own and runs bench_peer beside it. It is
# a tool of this benchmark alone: nothing of weft knows it. The folder is WEFT_PEER_VENV, else one under the build.
#
# The peer is what a native build gives; where that uses AMX, a build without AMX is there, too, and the better of the two counts. WEFT_CPU=avx512
# and avx2 hold both sides to those instructions.
set -eu
version=0.3.36
venv=${WEFT_PEER_VENV:-$top_builddir/bench-peer-venv}
log=$top_builddir/bench-peer.log

fail() {
	tail -n 5 "$log" >&2
	echo "bench-peer: there is no peer to compare with: $1" >&2
	exit 1
}

has() {
	grep -qw "$1" /proc/cpuinfo
}

fetch() {
	python3 -m venv "$venv" && "$venv/bin/pip" install numpy diskcache jinja2 typing-extensions &&
		"$venv/bin/pip" download --no-deps --no-binary llama-cpp-python --dest "$venv" "llama-cpp-python==$version" || return 1
	command -v cmake || "$venv/bin/pip" install cmake || return 1
	tar -xzf "$venv/llama_cpp_python-$version.tar.gz" -C "$venv" || return 1
	# GCC 12 takes the configuration of AMX's tiles for 8 bytes and drops the stores to the others. A barrier makes it write all.
	sed -i 's/^\( *\)_tile_loadconfig(&tc);/\1__asm__ volatile("" : : "r"(\&tc) : "memory");\n&/' \
		"$venv/llama_cpp_python-$version/vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp" || return 1
	mv "$venv/llama_cpp_python-$version" "$venv/src"
}

# What all of AVX-512 is that this machine has, but no AMX.
avx512() {
	for pair in avx512f:AVX512 avx512_vnni:AVX512_VNNI avx512vbmi:AVX512_VBMI avx512_bf16:AVX512_BF16; do
		! has "${pair%:*}" || echo "-DGGML_${pair#*:}=ON"
	done
}

options() {
	none='-DGGML_AVX512=OFF -DGGML_AVX512_VNNI=OFF -DGGML_AVX512_VBMI=OFF -DGGML_AVX512_BF16=OFF -DGGML_AVX_VNNI=OFF'
	avx2='-DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON'
	case $1 in
	native) echo "-DGGML_NATIVE=ON" ;;
	avx512) echo "-DGGML_NATIVE=OFF $avx2 $none $(avx512)" ;;
	avx2) echo "-DGGML_NATIVE=OFF $avx2 $none" ;;
	esac
}

# Builds share one folder: they differ in one library.
build() {
	PATH=$PATH:$venv/bin
	# shellcheck disable=SC2046,SC2016
	cmake -S "$venv/src/vendor/llama.cpp" -B "$venv/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
		-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON '-DCMAKE_INSTALL_RPATH=$ORIGIN' -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF \
		-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF $(options "$1") &&
		cmake --build "$venv/build" --target llama -j "$(nproc)" || return 1
	rm -rf "$venv/$1.part"
	mkdir -p "$venv/$1.part/llama_cpp/lib"
	cp "$venv/src/llama_cpp/"*.py "$venv/$1.part/llama_cpp" && cp -P "$venv/build/bin/"*.so* "$venv/$1.part/llama_cpp/lib" &&
		mv "$venv/$1.part" "$venv/$1"
}

case ${WEFT_CPU:-} in
avx2 | avx512) peers=$WEFT_CPU ;;
*) peers="native$(! has amx_int8 || echo ' avx512')" ;;
esac
[ -d "$venv/src" ] || {
	echo "fetching llama-cpp-python $version to $venv" >&2
	fetch >"$log" 2>&1 || fail "it comes from Python's package index: is the network there?"
}
for peer in $peers; do
	[ -d "$venv/$peer" ] || {
		echo "building llama.cpp ($peer) in $venv: some minutes; $log tells how it goes" >&2
		build "$peer" >"$log" 2>&1 || fail "it does not build. A C++ compiler is needed"
	}
	set -- "$@" -- env "PYTHONPATH=$venv/$peer" "$venv/bin/python" "$top_srcdir/tests/bench/peer.py"
done
exec "$top_builddir/tests/bench/bench_peer" "$@"
