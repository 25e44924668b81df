#include "frame.h"

void mcu_read_frame(void *context, int y, int x, int h, int w, int8_t *dst) {
    const mcu_frame *frame = context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = frame->rgb + ((y + i) * frame->width + x) * 3;
        for (int j = 0; j < 3 * w; j++)
            *dst++ = (int8_t)(src[j] - 128);
    }
}
