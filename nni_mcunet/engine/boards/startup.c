/* Vectors and reset of a Cortex-M: FPU on, .data copied, .bss cleared, the free stack painted, main.
 * Every handler is weak: define a function of the same name to take an exception. */
#include "print.h"

extern uint32_t mcu_data_load[], mcu_data[], mcu_data_end[], mcu_bss[], mcu_bss_end[]; /* sections.ld */
extern uint32_t mcu_stack_low[], mcu_stack_top[];
int main(void);
void mcu_reset(void);
__attribute__((used)) void mcu_say_fault(uint32_t exception); /* called by assembly, which -flto does not see */

typedef volatile uint32_t reg;
#define SCB_VTOR (*(reg *)0xe000ed08)
#define SCB_CCR (*(reg *)0xe000ed14)
#define SCB_CFSR (*(reg *)0xe000ed28)
#define SCB_CPACR (*(reg *)0xe000ed88)
#define PAINT 0xa5a5a5a5u
#if !defined(MCU_INTERRUPTS)
#define MCU_INTERRUPTS 0 /* of the device, behind the core's 16; the program uses none */
#endif

/* The stack may be what overflowed (it ends where the SRAM begins), so start a new one. */
__attribute__((naked)) void Default_Handler(void) {
    __asm__ volatile("mrs r0, ipsr\n ldr r1, =mcu_stack_top\n mov sp, r1\n bl mcu_say_fault\n .ltorg");
}

#define WEAK __attribute__((weak, alias("Default_Handler")))
WEAK void NMI_Handler(void);
WEAK void HardFault_Handler(void);
WEAK void MemManage_Handler(void);
WEAK void BusFault_Handler(void);
WEAK void UsageFault_Handler(void);
WEAK void SVC_Handler(void);
WEAK void DebugMon_Handler(void);
WEAK void PendSV_Handler(void);
WEAK void SysTick_Handler(void);
WEAK void Interrupt_Handler(void); /* all of the device's */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* functions as objects, and a range of elements */
__attribute__((section(".vectors"), used)) static void *const vectors[16 + MCU_INTERRUPTS] = {
    mcu_stack_top,
    (void *)mcu_reset,
    (void *)NMI_Handler,
    (void *)HardFault_Handler,
    (void *)MemManage_Handler,
    (void *)BusFault_Handler,
    (void *)UsageFault_Handler,
    [11] = (void *)SVC_Handler,
    [12] = (void *)DebugMon_Handler,
    [14] = (void *)PendSV_Handler,
    [15] = (void *)SysTick_Handler,
#if MCU_INTERRUPTS
    [16 ... 15 + MCU_INTERRUPTS] = (void *)Interrupt_Handler,
#endif
};
#pragma GCC diagnostic pop

void mcu_reset(void) {
#if defined(__ARM_FP)
    SCB_CPACR |= 0xfu << 20; /* coprocessors 10 and 11: the FPU */
#endif
#if __ARM_ARCH_ISA_THUMB == 1
    SCB_CCR |= 1u << 3; /* words at odd addresses fault, as on this core, where a larger one stands for it */
#endif
    SCB_VTOR = (uint32_t)vectors;
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

void mcu_say_fault(uint32_t exception) {
    mcu_print_pair("\n{\"error\": \"exception ", exception); /* 3: hard fault; 16 and above: an interrupt */
    mcu_print_pair(", SCB_CFSR ", SCB_CFSR);
    mcu_print("\"}\n");
    mcu_exit(1);
}
