"""llama.cpp at the end of a pipe, for bench_peer: what it does in the time that the other side gives it.

    peer.py FILE.gguf THREADS wall|cpu

The first line that it writes says what it is. Then every line that it reads asks for a measure, and is answered with its seconds, or for logits:

    prompt N                 one pass over a prompt of N tokens
    steps N BATCH CONTEXT    N steps of BATCH sequences that have CONTEXT tokens each, and go back to them afterwards
    logits N                 those behind a prompt of N tokens, in one line

cpu: seconds are CPU time, divided by the number of threads.

Everything is as llama.cpp has it by default: flash attention where it thinks so, weights repacked for the CPU, a cache of f16."""
import ctypes
import os
import sys
import time

import llama_cpp as llama

ROWS, VOCAB = 512, 32000


path, threads, clock = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def now():
    return time.process_time() / threads if clock == "cpu" else time.perf_counter()


@llama.llama_log_callback
def quiet(level, text, data):
    pass


class Context:
    """`sequences` of up to `room` tokens each."""

    def __init__(self, model, sequences, room):
        p = llama.llama_context_default_params()
        p.n_ctx, p.n_seq_max = sequences * room, sequences
        p.n_batch = p.n_ubatch = ROWS
        p.n_threads = p.n_threads_batch = threads
        self.handle = llama.llama_init_from_model(model, p)
        if not self.handle:
            sys.exit("llama.cpp makes no context")
        self.batch = llama.llama_batch_init(ROWS, 0, 1)

    def run(self, rows):
        """rows: (sequence, position, token, wants logits); seconds of the pass."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (sequence, position, token, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.logits[i], b.n_seq_id[i], b.seq_id[i][0] = token, position, wanted, 1, sequence
        begin = now()
        if llama.llama_decode(self.handle, b) != 0:
            sys.exit("llama.cpp cannot run this batch")
        llama.llama_synchronize(self.handle)
        return now() - begin

    def trim(self, sequence, length):
        llama.llama_memory_seq_rm(llama.llama_get_memory(self.handle), sequence, length, -1)


class Peer:
    def __init__(self):
        self.contexts = {}
        self.model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")

    def context(self, sequences, room, fill):
        """Kept from call to call; each sequence begins with `fill` tokens."""
        key = sequences, room, fill
        if key not in self.contexts:
            c = self.contexts[key] = Context(self.model, sequences, room)
            for s in range(sequences if fill else 0):
                c.run([(s, i, (i * 31 + s) % VOCAB, i == fill - 1) for i in range(fill)])
        return self.contexts[key]

    def prompt(self, n):
        c = self.context(1, 2 * ROWS, 0)
        seconds = c.run([(0, i, i * 7919 % VOCAB, i == n - 1) for i in range(n)])
        c.trim(0, 0)
        return seconds

    def logits(self, n):
        self.prompt(n)
        got = llama.llama_get_logits_ith(self.context(1, 2 * ROWS, 0).handle, -1)
        return " ".join(f"{x:.6g}" for x in got[:VOCAB])

    def steps(self, n, batch, fill):
        c = self.context(batch, 256, fill)
        seconds = sum(c.run([(s, fill + i, (i * 17 + s * 5) % VOCAB, True) for s in range(batch)]) for i in range(n))
        for s in range(batch):
            c.trim(s, fill)
        return seconds


def main():
    llama.llama_log_set(quiet, ctypes.c_void_p())
    llama.llama_backend_init()
    build = os.path.basename(os.path.dirname(os.path.dirname(llama.__file__)))
    peer = Peer()
    print(f"llama-cpp-python {llama.__version__}, {build}: {llama.llama_print_system_info().decode().strip()}", flush=True)
    for line in sys.stdin:
        what, *numbers = line.split()
        print(getattr(peer, what)(*map(int, numbers)), flush=True)


main()
