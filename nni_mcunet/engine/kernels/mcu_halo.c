/* The cached halo: what patches share, out of its cache into a tile and from the tile into the cache. */
#include "mcu.h"
#include <string.h>

static void copy(int8_t *to, int to_step, const int8_t *from, int from_step, int bytes, int lines) {
    for (; lines > 0 && bytes > 0; lines--, to += to_step, from += from_step)
        memcpy(to, from, (size_t)bytes);
}

/* tile: [y.n][x.n][c], cache: [y.old, then y.keep][across][c]. */
void mcu_rows(int c, int across, const mcu_edge *y, const mcu_edge *x, int8_t *tile, int8_t *cache) {
    const int line = x->n * c, old = x->old * c, wide = across * c;
    tile += old, cache += x->at * c;
    copy(tile, line, cache, wide, line - old, y->old);
    copy(cache, wide, tile + (y->n - y->keep) * line, line, line - old, y->keep);
}

/* tile: [y.n][x.n][c], cache: [y.n][x.old, then x.keep][c]. */
void mcu_cols(int c, const mcu_edge *y, const mcu_edge *x, int8_t *tile, int8_t *cache) {
    const int line = x->n * c, old = x->old * c, keep = x->keep * c;
    copy(tile, line, cache, old, old, y->n);
    copy(cache, keep, tile + line - keep, line, keep, y->n);
}
