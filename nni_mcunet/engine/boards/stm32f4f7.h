/* What the STM32F4 and F7 have alike: reset and clock control, power, flash (RM0401, RM0402, RM0385). */
#ifndef MCU_STM32F4F7_H
#define MCU_STM32F4F7_H
#include "stm32.h"

#if defined(__cplusplus)
extern "C" {
#endif

#define RCC 0x40023800u
#define RCC_CR MCU_REG(RCC)
#define RCC_PLLCFGR MCU_REG(RCC + 0x04)
#define RCC_CFGR MCU_REG(RCC + 0x08)
#define RCC_AHB1ENR MCU_REG(RCC + 0x30)
#define RCC_APB1ENR MCU_REG(RCC + 0x40)
#define RCC_APB2ENR MCU_REG(RCC + 0x44)
#define PWR_CR MCU_REG(0x40007000) /* CR1 of the F7 */
#define PWR_CSR 0x40007004u        /* CSR1 */
#define FLASH_ACR 0x40023c00u
#define PLLCFGR (MCU_PLL_M | MCU_PLL_N << 6 | (MCU_PLL_P / 2 - 1) << 16) /* source: HSI */

/* Clocks of the pins and the UART. */
static inline void enable_port(void) {
    RCC_AHB1ENR |= 1u << (MCU_TX_GPIO >> 10 & 15) | 1u << (MCU_RX_GPIO >> 10 & 15); /* GPIOxEN */
    if (MCU_UART == 1)
        RCC_APB2ENR |= 1u << 4; /* USART1EN */
    else
        RCC_APB1ENR |= 1u << (15 + MCU_UART); /* USART2EN, USART3EN */
    (void)RCC_AHB1ENR;                        /* the enables take two cycles */
}

/* The internal oscillator, and scale 1 asked for. */
static inline void start_oscillator(void) {
    RCC_APB1ENR |= 1u << 28; /* PWREN */
    RCC_CR |= 1u;            /* HSION */
    mcu_wait(RCC, 2, 2, "RCC: the 16 MHz oscillator does not start");
    PWR_CR |= 3u << 14; /* VOS */
}

/* The PLL as PLLCFGR has it, and the supply ready for it. */
static inline void start_pll(void) {
    RCC_CR |= 1u << 24;                                                   /* PLLON */
    mcu_wait(PWR_CSR, 1u << 14, 1u << 14, "PWR: scale 1 is not reached"); /* VOSRDY, only with the PLL on */
}

/* The core to the PLL once it has locked. dividers: PPRE1 and PPRE2 of CFGR. */
static inline void take_pll(uint32_t dividers) {
    mcu_wait(RCC, 1u << 25, 1u << 25, "RCC: the PLL does not lock");
    RCC_CFGR = dividers;
    RCC_CFGR |= 2u; /* SW: PLL */
    mcu_wait(RCC + 0x08, 3u << 2, 2u << 2, "RCC: the core does not take the PLL");
}

#if defined(__cplusplus)
}
#endif

#endif
