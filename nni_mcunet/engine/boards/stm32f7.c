/* STM32F746 at 216 MHz (RM0385): over-drive, 7 wait states, caches. The ART accelerator serves
 * only the flash at 0x00200000 (AN4667), the caches that at 0x08000000, where the program lies. */
#include "cache_m7.h"
#include "stm32.h"

#define RCC 0x40023800u
#define RCC_CR MCU_REG(RCC)
#define RCC_PLLCFGR MCU_REG(RCC + 0x04)
#define RCC_CFGR MCU_REG(RCC + 0x08)
#define RCC_AHB1ENR MCU_REG(RCC + 0x30)
#define RCC_APB1ENR MCU_REG(RCC + 0x40)
#define RCC_APB2ENR MCU_REG(RCC + 0x44)
#define RCC_DCKCFGR2 MCU_REG(RCC + 0x90)
#define PWR_CR1 MCU_REG(0x40007000)
#define PWR_CSR1 0x40007004u
#define FLASH_ACR 0x40023c00u

void mcu_core_start(void) { mcu_caches_start(); }

void mcu_uart_enable(void) {
    RCC_AHB1ENR |= 1u << (MCU_TX_GPIO >> 10 & 15) | 1u << (MCU_RX_GPIO >> 10 & 15); /* GPIOxEN */
    RCC_DCKCFGR2 |= 2u << (MCU_UART - 1) * 2;                                       /* USARTxSEL: HSI */
    if (MCU_UART == 1)
        RCC_APB2ENR |= 1u << 4; /* USART1EN */
    else
        RCC_APB1ENR |= 1u << (15 + MCU_UART); /* USART2EN, USART3EN */
    (void)RCC_AHB1ENR;                        /* the enables take two cycles */
}

uint32_t mcu_uart_hz(uint32_t core_hz) {
    (void)core_hz;
    return MCU_HSI_HZ;
}

uint32_t mcu_clock_start(void) {
    RCC_APB1ENR |= 1u << 28; /* PWREN */
    RCC_CR |= 1u;            /* HSION */
    mcu_wait(RCC, 2, 2, "RCC: the 16 MHz oscillator does not start");
    PWR_CR1 |= 3u << 14; /* VOS scale 1 */
    /* 16 MHz / M 8 * N 216 / P 2; Q 9 is not used; bit 29 is reserved and 1 (as in ST's __HAL_RCC_PLL_CONFIG) */
    RCC_PLLCFGR = 8u | 216u << 6 | 0u << 16 | 9u << 24 | 1u << 29;
    RCC_CR |= 1u << 24; /* PLLON */
    mcu_wait(PWR_CSR1, 1u << 14, 1u << 14, "PWR: scale 1 is not reached"); /* VOSRDY, only with the PLL on */
    PWR_CR1 |= 1u << 16; /* ODEN */
    mcu_wait(PWR_CSR1, 1u << 16, 1u << 16, "PWR: over-drive does not start");
    PWR_CR1 |= 1u << 17; /* ODSWEN */
    mcu_wait(PWR_CSR1, 1u << 17, 1u << 17, "PWR: over-drive does not switch");
    MCU_REG(FLASH_ACR) = 1u << 11;                /* ARTRST: allowed while the accelerator is off */
    MCU_REG(FLASH_ACR) = 1u << 9 | 1u << 8 | 7u; /* ARTEN, PRFTEN, LATENCY */
    mcu_wait(FLASH_ACR, 15, 7, "FLASH: the wait states are not taken");
    mcu_wait(RCC, 1u << 25, 1u << 25, "RCC: the PLL does not lock");
    RCC_CFGR = 5u << 10 | 4u << 13; /* PPRE1: HCLK / 4, PPRE2: HCLK / 2 */
    RCC_CFGR |= 2u;                 /* SW: PLL */
    mcu_wait(RCC + 0x08, 3u << 2, 2u << 2, "RCC: the core does not take the PLL");
    return 216000000;
}
