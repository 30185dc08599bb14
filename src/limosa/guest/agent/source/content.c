/* Pseudo-random content that can be made again from a key, and the hash `lm64`. */
#include "agent.h"

#include <string.h>

/* The finaliser of SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators"
 * (2014), with the constants of Stafford's variant 13. */
uint64_t mix64(uint64_t value)
{
    value += 0x9e3779b97f4a7c15ull;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ value >> 27) * 0x94d049bb133111ebull;
    return value ^ value >> 31;
}

/* Marsaglia, "Xorshift RNGs" (2003), triple 13, 7, 17: no multiplication, so it is fast under TCG too. */
static inline uint64_t xorshift(uint64_t state)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^ state << 17;
}

static uint64_t first_state(uint64_t key)
{
    uint64_t state = mix64(key);
    return state ? state : 1; /* 0 is the one state that xorshift never leaves */
}

void content_fill(uint64_t *words, size_t count, uint64_t key)
{
    uint64_t state = first_state(key);
    for (size_t i = 0; i < count; i++)
        words[i] = state = xorshift(state);
}

bool content_check(const uint64_t *words, size_t count, uint64_t key)
{
    uint64_t state = first_state(key), wrong = 0;
    for (size_t i = 0; i < count; i++) {
        state = xorshift(state);
        wrong |= words[i] ^ state;
    }
    return wrong == 0;
}

/* lm64, a hash of our own, not a cryptographic one. Over little-endian 64-bit words w (the last one
 * filled up with zeros): state = rotate_left((state ^ w) * 0x9fb21c651e98df25, 29). Each step is a
 * bijection of the state and of the word, so one wrong word always changes the result. */
static inline uint64_t lm64_step(uint64_t state, uint64_t word)
{
    state = (state ^ word) * 0x9fb21c651e98df25ull;
    return state << 29 | state >> 35;
}

uint64_t lm64_update(uint64_t state, const void *bytes, size_t length)
{
    const unsigned char *at = bytes;
    uint64_t word;
    for (; length >= sizeof word; at += sizeof word, length -= sizeof word) {
        memcpy(&word, at, sizeof word);
        state = lm64_step(state, word);
    }
    if (length) {
        word = 0;
        memcpy(&word, at, length);
        state = lm64_step(state, word);
    }
    return state;
}

uint64_t lm64_finish(uint64_t state, uint64_t length)
{
    return mix64(state ^ length);
}
