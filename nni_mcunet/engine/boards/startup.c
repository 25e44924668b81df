/* Reset of a Cortex-M4 or M7: FPU on, .data copied, .bss cleared, the free stack painted, main. */
#include "port.h"

extern uint32_t mcu_data_load[], mcu_data[], mcu_data_end[], mcu_bss[], mcu_bss_end[]; /* board.ld */
extern uint32_t mcu_stack_low[], mcu_stack_top[];
int main(void);
void mcu_reset(void);
void mcu_fault(void);
void mcu_say_fault(void);

#define CPACR (*(volatile uint32_t *)0xe000ed88)
#define PAINT 0xa5a5a5a5u

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    mcu_stack_top, (void *)mcu_reset, (void *)mcu_fault, (void *)mcu_fault, /* stack, reset, NMI, hard fault */
    (void *)mcu_fault, (void *)mcu_fault, (void *)mcu_fault,               /* memory, bus and usage fault */
};

void mcu_reset(void) {
    CPACR |= 0xfu << 20; /* coprocessors 10 and 11 */
    __asm__ volatile("dsb\n isb");
    for (uint32_t *to = mcu_data, *from = mcu_data_load; to != mcu_data_end;)
        *to++ = *from++;
    for (uint32_t *to = mcu_bss; to != mcu_bss_end;)
        *to++ = 0;
    for (uint32_t *to = mcu_stack_low; to < (uint32_t *)__builtin_frame_address(0) - 16;)
        *to++ = PAINT;
    main();
    mcu_exit(1);
}

uint32_t mcu_stack_bytes(void) {
    const uint32_t *low = mcu_stack_low;
    while (low != mcu_stack_top && *low == PAINT)
        low++;
    return (uint32_t)(mcu_stack_top - low) * 4;
}

void mcu_say_fault(void) {
    for (const char *c = "\n{\"fault\": true}\n"; *c; c++)
        mcu_put(*c);
    mcu_exit(1);
}

/* The stack may be what overflowed (it ends where the SRAM begins), so start a new one. */
__attribute__((naked)) void mcu_fault(void) {
    __asm__ volatile("ldr r0, =mcu_stack_top\n mov sp, r0\n b mcu_say_fault\n .ltorg");
}
