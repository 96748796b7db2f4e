# tests of kernels/format and the tokenizer
