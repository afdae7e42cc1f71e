// The tile instructions by their documentation, for CPUs that lack them. A tile is memory; sizes are checked.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int16_t rows, bytes;
    uint8_t at[16][64];
} tile;

static tile *made(int16_t rows, int16_t bytes) {
    if (rows < 1 || rows > 16 || bytes < 4 || bytes > 64 || bytes % 4) abort();
    tile *t = calloc(1, sizeof *t);
    t->rows = rows;
    t->bytes = bytes;
    return t;
}

tile *emulated_tileloadd64(int16_t rows, int16_t bytes, const uint8_t *from, int64_t stride) {
    tile *t = made(rows, bytes);
    for (int r = 0; r < rows; r++) memcpy(t->at[r], from + r * stride, bytes);
    return t;
}

void emulated_tilestored64(int16_t rows, int16_t bytes, uint8_t *to, int64_t stride, tile *t) {
    if (t->rows != rows || t->bytes != bytes) abort();
    for (int r = 0; r < rows; r++) memcpy(to + r * stride, t->at[r], bytes);
}

static tile *sums(int16_t m, int16_t n, int16_t k, tile *c, tile *a, tile *b) {
    if (c->rows != m || c->bytes != n || a->rows != m || a->bytes != k || b->rows != k / 4 || b->bytes != n) abort();
    tile *t = made(m, n);
    memcpy(t->at, c->at, sizeof c->at);
    return t;
}

static float wide(uint16_t bits) {
    uint32_t whole = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &whole, sizeof value);
    return value;
}

tile *emulated_tdpbf16ps(int16_t m, int16_t n, int16_t k, tile *c, tile *a, tile *b) {
    tile *t = sums(m, n, k, c, a, b);
    for (int i = 0; i < m; i++)
        for (int w = 0; w < k / 4; w++)
            for (int j = 0; j < n / 4; j++)
                for (int s = 0; s < 2; s++)
                    ((float *)t->at[i])[j] += wide(((uint16_t *)a->at[i])[2 * w + s]) * wide(((uint16_t *)b->at[w])[2 * j + s]);
    return t;
}

tile *emulated_tdpbusd(int16_t m, int16_t n, int16_t k, tile *c, tile *a, tile *b) {
    tile *t = sums(m, n, k, c, a, b);
    for (int i = 0; i < m; i++)
        for (int w = 0; w < k / 4; w++)
            for (int j = 0; j < n / 4; j++)
                for (int s = 0; s < 4; s++)
                    ((int32_t *)t->at[i])[j] += a->at[i][4 * w + s] * ((int8_t *)b->at[w])[4 * j + s];
    return t;
}
