/* QEMU's boards of Arm's MPS2 and MPS3: UART, timer and exit, at the addresses of machines.py. */
#include "port.h"

typedef volatile uint32_t reg;
#define UART ((reg *)MCU_UART)   /* data, state, control, interrupt, divider */
#define TIMER ((reg *)MCU_TIMER) /* control, value (counts down), reload; or, beside a counter, its value */
#define COUNTER ((reg *)MCU_COUNTER) /* control of the system counter, 0 where there is none */

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
    uint32_t ticks;
    if (MCU_COUNTER) {
        COUNTER[0] = 1;
        ticks = TIMER[0];
    } else {
        if (!TIMER[0]) {
            TIMER[2] = TIMER[1] = 0xffffffffu;
            TIMER[0] = 1;
        }
        ticks = 0xffffffffu - TIMER[1];
    }
    const uint64_t whole = (uint64_t)ticks * (MCU_QUARTERS / 4); /* one instruction a ns under -icount shift=0 */
    return MCU_QUARTERS % 4 ? whole + (uint64_t)ticks * (MCU_QUARTERS % 4) / 4 : whole;
}

void mcu_exit(int code) {
    uint32_t block[2] = {0x20026, (uint32_t)code}; /* application exit */
    register uint32_t op __asm__("r0") = 0x20;     /* semihosting SYS_EXIT_EXTENDED */
    register uint32_t *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : : "r"(op), "r"(argument) : "memory");
    for (;;) {
    }
}
