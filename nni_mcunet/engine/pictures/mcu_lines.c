#include "mcu_lines.h"
#include "mcu_pixel.h"
#include <string.h>

#define ROWS MCU_PICTURE_ROWS(1)
#if defined(MCU_LETTERBOX)
#define WIDTH(lines) ((lines)->width > 0 && (lines)->width < MCU_INPUT_W ? (lines)->width : MCU_INPUT_W)
#else
#define WIDTH(lines) MCU_INPUT_W
#endif
/* Orders the ring's bytes and its counters to the compiler; a single core needs no more. */
#define BARRIER() __asm__ volatile("" : : : "memory")

void mcu_lines_start(mcu_lines *lines) {
    lines->frame = 0; /* the interrupts do nothing until mcu_lines_frame */
    BARRIER();
    lines->written = lines->kept = lines->line = lines->over = 0;
    lines->error = MCU_LINES_OK;
    lines->step = lines->step > 0 ? lines->step : 1;
    lines->frames = lines->frames > 0 ? lines->frames : 1;
    BARRIER();
    lines->frame = -1;
}

static void lost(mcu_lines *lines) {
    if (lines->frame >= lines->frames)
        lines->over = 1;
}

void mcu_lines_frame(mcu_lines *lines) {
    if (!lines->frame)
        return;
    lost(lines); /* what the last frame has not brought */
    lines->frame = lines->frame < 0 ? 1 : lines->frame + 1;
    lines->line = 0;
}

void mcu_lines_overrun(mcu_lines *lines) {
    if (lines->frame > 0) {
        lost(lines);
        lines->line = -1;
    }
}

void mcu_lines_put(mcu_lines *lines, const uint8_t *src) {
    if (lines->frame <= 0 || lines->line < 0)
        return;
    const int from_first = lines->line++ - lines->first_line, row = from_first / lines->step;
    if (from_first < 0 || from_first % lines->step || row < lines->written || row >= MCU_INPUT_H)
        return;
    if (row > lines->written || row >= lines->kept + ROWS) {
        lost(lines);
        return;
    }
    uint8_t *dst = lines->ring[row % ROWS][0];
    src += 2 * lines->first_column;
    for (int x = 0; x < WIDTH(lines); x++, dst += 2, src += 2 * lines->step) {
        dst[0] = src[0];
        dst[1] = src[1];
    }
    BARRIER();
    lines->written = row + 1;
}

/* Waits for the rows up to `end`. Returns the error. */
static int wait_for(mcu_lines *lines, int end) {
    while (lines->written < end && !lines->error)
        if (lines->over && lines->written < end) /* the last row may have come since */
            lines->error = MCU_LINES_LOST;
        else if (lines->wait && lines->wait(lines->user) && lines->written < end)
            lines->error = MCU_LINES_TIMEOUT;
    BARRIER();
    return lines->error;
}

void mcu_read_lines(void *context, int y, int x, int h, int w, int8_t *dst) {
    mcu_lines *lines = context;
    if (y < lines->kept || h > ROWS)
        lines->error = MCU_LINES_ORDER;
    else if (x + w > WIDTH(lines))
        lines->error = MCU_LINES_SIZE;
    else
        lines->kept = y;
    if (wait_for(lines, y + h)) {
        memset(dst, 0, (size_t)(h * w * MCU_INPUT_C));
        return;
    }
    for (int i = y; i < y + h; i++)
        for (int j = x; j < x + w; j++)
            dst = mcu_pixel_rgb565(lines->ring[i % ROWS][j], lines->high_first, dst);
}
