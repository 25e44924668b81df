/* Copies to other places: chosen channels, positions as channels and channels as positions. */
#include "mcu.h"
#include <string.h>

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][cout]. */
void mcu_take(const mcu_move *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    const mcu_move o = *op; /* a copy: a store to `out` cannot change it */
    for (int i = 0; i < y->n_out; i++) {
        const int8_t *src = in + ((y->first + i * o.sh) * x->n_in + x->first) * o.c;
        int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst) * o.cout;
        for (int j = 0; j < x->n_out; j++, src += o.sw * o.c, dst += o.cout)
            if (o.channels)
                for (int c = 0; c < o.cout; c++)
                    dst[c] = o.channels[c] < 0 ? o.zp : src[o.channels[c]];
            else
                memcpy(dst, src + o.from, (size_t)o.cout);
    }
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][sh][sw][c]. */
void mcu_space_to_depth(const mcu_move *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    const mcu_move o = *op;
    const int row = o.sw * o.c;
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const int8_t *src = in + ((y->first + i * o.sh) * x->n_in + x->first + j * o.sw) * o.c;
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * o.cout;
            for (int r = 0; r < o.sh; r++, src += x->n_in * o.c, dst += row)
                memcpy(dst, src, (size_t)row);
        }
}

/* in: [y.n_in][x.n_in][sh][sw][cout], out: [y.n_dst][x.n_dst][cout]. */
void mcu_depth_to_space(const mcu_move *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    const mcu_move o = *op;
    for (int i = 0; i < y->n_out; i++) {
        const int row = y->first + i;
        const int8_t *src = in + row / o.sh * x->n_in * o.c + row % o.sh * o.sw * o.cout;
        int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst) * o.cout;
        for (int j = 0; j < x->n_out; j++, dst += o.cout) {
            const int col = x->first + j;
            memcpy(dst, src + col / o.sw * o.c + col % o.sw * o.cout, (size_t)o.cout);
        }
    }
}
