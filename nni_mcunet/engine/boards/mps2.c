/* QEMU's mps2-an386 (Cortex-M4) and mps2-an500 (Cortex-M7): UART, timer and exit. */
#include "port.h"

typedef volatile uint32_t reg;
#define UART ((reg *)0x40004000)  /* data, state, control, interrupt, divider */
#define TIMER ((reg *)0x40000000) /* control, value (counts down), reload */
#define STEP 40                   /* instructions a tick: 25 MHz, one instruction a ns under -icount shift=0 */

void mcu_put(char c) {
    if (!UART[2]) {
        UART[4] = 16;
        UART[2] = 1; /* transmitter on */
    }
    while (UART[1] & 1) {
    }
    UART[0] = (uint8_t)c;
}

const char mcu_unit[] = "instructions";
uint32_t mcu_clock_hz(void) { return 0; }

uint64_t mcu_count(void) {
    if (!TIMER[0]) {
        TIMER[2] = TIMER[1] = 0xffffffffu;
        TIMER[0] = 1;
    }
    return (uint64_t)(0xffffffffu - TIMER[1]) * STEP;
}

void mcu_exit(int code) {
    uint32_t block[2] = {0x20026, (uint32_t)code}; /* application exit */
    register uint32_t op __asm__("r0") = 0x20;     /* semihosting SYS_EXIT_EXTENDED */
    register uint32_t *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : : "r"(op), "r"(argument) : "memory");
    for (;;) {
    }
}
