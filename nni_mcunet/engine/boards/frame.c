#define MCU_FRAME_HOLDS_Q
#include "frame.h"

void mcu_read_frame(void *context, int y, int x, int h, int w, int8_t *dst) {
    const mcu_frame *frame = context;
    for (int i = 0; i < h; i++) {
        const uint8_t *src = frame->pixels + ((y + i) * frame->width + x) * MCU_INPUT_C;
        for (int j = 0; j < MCU_INPUT_C * w; j++)
            *dst++ = (int8_t)(src[j] - 128);
    }
}
