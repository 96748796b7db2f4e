/* tokenizer_spm.h: SentencePiece behind C. Nothing else in weft sees C++; no exception passes this line. */
#ifndef WEFT_TOKENIZER_SPM_H
#define WEFT_TOKENIZER_SPM_H

#include "core.h"

#ifdef __cplusplus
extern "C" {
#endif

struct spm;	/* one SentencePiece processor: const and reentrant after spm_new */

/* A serialised ModelProto, copied. */
int spm_new(struct spm **out, const void *proto, size_t len, struct core_error *err);
void spm_free(struct spm *s);

enum spm_kind { SPM_TEXT, SPM_BYTE, SPM_CONTROL, SPM_UNKNOWN };

uint32_t spm_size(const struct spm *s);
int32_t spm_bos(const struct spm *s);	/* -1: none */
int32_t spm_eos(const struct spm *s);
enum spm_kind spm_kind(const struct spm *s, uint32_t id);
/* The piece as the vocabulary spells it (U+2581 for spaces, "<0x0A>" for bytes); borrowed, id < spm_size(). */
const char *spm_piece(const struct spm *s, uint32_t id, size_t *len);
/* What an unknown token reads as; the caller frees it. NULL: out of memory. */
char *spm_unknown_text(const struct spm *s);
/* text must be UTF-8. *out is malloc'ed with room for `ahead` ids before the first one (which are not set). */
int spm_encode(const struct spm *s, const char *text, size_t len, size_t ahead, int32_t **out, size_t *n, struct core_error *err);

#ifdef __cplusplus
}
#endif
#endif
