/* STM32F410 and F412 at 100 MHz (RM0401, RM0402): scale 1, 3 wait states behind the ART accelerator. */
#include "stm32.h"

#define RCC 0x40023800u
#define RCC_CR MCU_REG(RCC)
#define RCC_PLLCFGR MCU_REG(RCC + 0x04)
#define RCC_CFGR MCU_REG(RCC + 0x08)
#define RCC_AHB1ENR MCU_REG(RCC + 0x30)
#define RCC_APB1ENR MCU_REG(RCC + 0x40)
#define RCC_APB2ENR MCU_REG(RCC + 0x44)
#define PWR_CR MCU_REG(0x40007000)
#define PWR_CSR 0x40007004u
#define FLASH_ACR MCU_REG(0x40023c00)

void mcu_core_start(void) {}

void mcu_uart_enable(void) {
    RCC_AHB1ENR |= 1u << (MCU_TX_GPIO >> 10 & 15) | 1u << (MCU_RX_GPIO >> 10 & 15); /* GPIOxEN */
    if (MCU_UART == 1)
        RCC_APB2ENR |= 1u << 4; /* USART1EN */
    else
        RCC_APB1ENR |= 1u << (15 + MCU_UART); /* USART2EN, USART3EN */
    (void)RCC_AHB1ENR;                        /* the enables take two cycles */
}

uint32_t mcu_uart_hz(uint32_t core_hz) { /* PCLK2, or PCLK1: at most 50 MHz */
    return MCU_UART == 1 || core_hz == MCU_HSI_HZ ? core_hz : core_hz / 2;
}

uint32_t mcu_clock_start(void) {
    RCC_APB1ENR |= 1u << 28; /* PWREN */
    RCC_CR |= 1u;            /* HSION */
    mcu_wait(RCC, 2, 2, "RCC: the 16 MHz oscillator does not start");
    PWR_CR |= 3u << 14; /* VOS scale 1 */
    /* 16 MHz / M 8 * N 100 / P 2; Q 5 and R 2 are not used */
    RCC_PLLCFGR = 8u | 100u << 6 | 0u << 16 | 5u << 24 | 2u << 28;
    RCC_CR |= 1u << 24; /* PLLON */
    mcu_wait(PWR_CSR, 1u << 14, 1u << 14, "PWR: scale 1 is not reached"); /* VOSRDY, only with the PLL on */
    FLASH_ACR = 1u << 12 | 1u << 11;                    /* DCRST, ICRST: allowed while the caches are off */
    FLASH_ACR = 1u << 10 | 1u << 9 | 1u << 8 | 3u;      /* DCEN, ICEN, PRFTEN, LATENCY */
    mcu_wait(0x40023c00, 15, 3, "FLASH: the wait states are not taken");
    mcu_wait(RCC, 1u << 25, 1u << 25, "RCC: the PLL does not lock");
    RCC_CFGR = 4u << 10;  /* PPRE1: HCLK / 2, PPRE2: HCLK */
    RCC_CFGR |= 2u;       /* SW: PLL */
    mcu_wait(RCC + 0x08, 3u << 2, 2u << 2, "RCC: the core does not take the PLL");
    return 100000000;
}
