/* charsmap.h: SentencePiece's compiled normalisation rules, checked before the library walks them. */
#ifndef WEFT_FORMAT_CHARSMAP_H
#define WEFT_FORMAT_CHARSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True when no text whatever can lead the library outside the map: it trusts the offsets that it finds there. */
bool charsmap_is_sound(const uint8_t *map, size_t len);

#endif
