#include "mcu_letterbox.h"
#include <string.h>

/* How much of [from, from + length) lies below `end`. */
static int inside(int from, int length, int end) { return from >= end ? 0 : end - from < length ? end - from : length; }

/* Fills the pixels from dst up to `end`. */
static void pad(int8_t *dst, const int8_t *end) {
    while (dst < end)
        for (int c = 0; c < MCU_INPUT_C; c++)
            *dst++ = MCU_PIXEL(c, MCU_LETTERBOX);
}

void mcu_read_letterbox(void *context, int y, int x, int h, int w, int8_t *dst) {
    mcu_letterbox *box = context;
    const int fits = box->height > 0 && box->height <= MCU_INPUT_H && box->width > 0 && box->width <= MCU_INPUT_W;
    box->error = fits ? MCU_LETTERBOX_OK : MCU_LETTERBOX_SIZE;
    if (!fits) {
        memset(dst, 0, (size_t)(h * w * MCU_INPUT_C));
        return;
    }
    const int columns = inside(x, w, box->width), rows = columns ? inside(y, h, box->height) : 0;
    if (rows)
        box->read(box->context, y, x, rows, columns, dst);
    const int part = columns * MCU_INPUT_C, whole = w * MCU_INPUT_C;
    for (int i = h - 1; i >= 0; i--) { /* from the last row up: its place is behind that of the row before */
        int8_t *row = dst + i * whole, *rest = i < rows ? row + part : row;
        if (i < rows)
            memmove(row, dst + i * part, (size_t)part);
        pad(rest, row + whole);
    }
}
