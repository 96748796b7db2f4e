/* tokenizer_spm.cc: the only C++ of the core: SentencePiece's processor as plain functions. */
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include <sentencepiece_processor.h>

#include "tokenizer_spm.h"

/* The library logs to stderr by itself. The switch is in its ABI everywhere but in its public header only since 0.2, under another
 * name; weak, so that a library without one of them still links. */
namespace sentencepiece {
namespace logging {
void SetMinLogLevel(int v) __attribute__((weak));
}
void SetMinLogLevel(int v) __attribute__((weak));
} // namespace sentencepiece

struct spm {
	sentencepiece::SentencePieceProcessor p;
};

static void silence()
{
	enum { FATAL = 3 };
	if (sentencepiece::logging::SetMinLogLevel)
		sentencepiece::logging::SetMinLogLevel(FATAL);
	if (sentencepiece::SetMinLogLevel)
		sentencepiece::SetMinLogLevel(FATAL);
}

int spm_new(struct spm **out, const void *proto, size_t len, struct core_error *err)
{
	*out = nullptr;
	try {
		auto s = std::make_unique<struct spm>();
		silence();
		auto status = s->p.LoadFromSerializedProto({static_cast<const char *>(proto), len});
		if (!status.ok())
			return core_fail(err, CORE_EFORMAT, "SentencePiece refuses the vocabulary: %s", status.error_message());
		*out = s.release();
		return 0;
	} catch (const std::bad_alloc &) {
		return core_fail(err, CORE_ENOMEM, "out of memory for the vocabulary");
	} catch (const std::exception &e) {
		return core_fail(err, CORE_EFORMAT, "SentencePiece refuses the vocabulary: %s", e.what());
	} catch (...) {
		return core_fail(err, CORE_EFORMAT, "SentencePiece refuses the vocabulary");
	}
}

void spm_free(struct spm *s)
{
	delete s;
}

uint32_t spm_size(const struct spm *s)
{
	return static_cast<uint32_t>(s->p.GetPieceSize());
}

int32_t spm_bos(const struct spm *s)
{
	return s->p.bos_id();
}

int32_t spm_eos(const struct spm *s)
{
	return s->p.eos_id();
}

enum spm_kind spm_kind(const struct spm *s, uint32_t id)
{
	int i = static_cast<int>(id);

	if (s->p.IsByte(i))
		return SPM_BYTE;
	if (s->p.IsControl(i))
		return SPM_CONTROL;
	return s->p.IsUnknown(i) ? SPM_UNKNOWN : SPM_TEXT;
}

const char *spm_piece(const struct spm *s, uint32_t id, size_t *len)
{
	const std::string &piece = s->p.IdToPiece(static_cast<int>(id));

	*len = piece.size();
	return piece.data();
}

char *spm_unknown_text(const struct spm *s)
{
	try {
		return strdup(s->p.DecodeIds({s->p.unk_id()}).c_str());
	} catch (...) {
		return nullptr;
	}
}

int spm_encode(const struct spm *s, const char *text, size_t len, size_t ahead, int32_t **out, size_t *n, struct core_error *err)
{
	*out = nullptr;
	*n = 0;
	try {
		std::vector<int> ids;
		auto status = s->p.Encode({text, len}, &ids);
		if (!status.ok())
			return core_fail(err, CORE_EINVAL, "SentencePiece cannot encode the text: %s", status.error_message());
		auto *list = static_cast<int32_t *>(malloc((ahead + ids.size() + 1) * sizeof(int32_t))); /* never 0 bytes */
		if (list == nullptr)
			return core_fail(err, CORE_ENOMEM, "out of memory for %zu tokens", ids.size());
		for (size_t i = 0; i < ids.size(); i++)
			list[ahead + i] = ids[i];
		*out = list;
		*n = ids.size();
		return 0;
	} catch (const std::bad_alloc &) {
		return core_fail(err, CORE_ENOMEM, "out of memory to encode %zu bytes", len);
	} catch (const std::exception &e) {
		return core_fail(err, CORE_EINVAL, "SentencePiece cannot encode the text: %s", e.what());
	} catch (...) {
		return core_fail(err, CORE_EINVAL, "SentencePiece cannot encode the text");
	}
}
