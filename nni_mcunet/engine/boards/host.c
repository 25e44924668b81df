/* main.c on the host (built with sanitizers), and what Python asks of the library. */
#define MCU_FRAME_HOLDS_Q
#include "frame.h"
#include "mcu_model.h"
#include "port.h"
#include <stdio.h>
#include <stdlib.h>

const int mcu_host_input[3] = {MCU_INPUT_H, MCU_INPUT_W, MCU_INPUT_C};
const int mcu_host_outputs = MCU_OUTPUTS;
const int mcu_host_arena_bytes = MCU_ARENA_BYTES;
#if defined(MCU_DETECTOR)
const int mcu_host_most_boxes = MCU_MOST_BOXES;
#endif

void mcu_put(char c) { putchar(c); }
uint64_t mcu_count(void) { return 0; }
const char mcu_unit[] = "instructions";
uint32_t mcu_clock_hz(void) { return 0; }
uint32_t mcu_stack_bytes(void) { return 0; }
void mcu_exit(int code) { exit(code); }

void mcu_host_run(const uint8_t *pixels) { /* [MCU_INPUT_H][MCU_INPUT_W][MCU_INPUT_C] */
    mcu_frame frame = {pixels, MCU_INPUT_W};
    mcu_run(mcu_read_frame, &frame);
}
