/* STM32H743 (RM0433), up to 480 MHz; beyond 400 it needs VOS0, which only silicon of revision V has: any other runs at
 * 400 MHz and VOS1. Caches. */
#include "cache_m7.h"
#include "stm32.h"

#define RCC 0x58024400u
#define RCC_CR MCU_REG(RCC)
#define RCC_CFGR MCU_REG(RCC + 0x10)
#define RCC_D1CFGR MCU_REG(RCC + 0x18)
#define RCC_D2CFGR MCU_REG(RCC + 0x1c)
#define RCC_D3CFGR MCU_REG(RCC + 0x20)
#define RCC_PLLCKSELR MCU_REG(RCC + 0x28)
#define RCC_PLLCFGR MCU_REG(RCC + 0x2c)
#define RCC_PLL1DIVR MCU_REG(RCC + 0x30)
#define RCC_D2CCIP2R MCU_REG(RCC + 0x54)
#define RCC_AHB2ENR MCU_REG(RCC + 0xdc)
#define RCC_AHB4ENR MCU_REG(RCC + 0xe0)
#define RCC_APB1LENR MCU_REG(RCC + 0xe8)
#define RCC_APB2ENR MCU_REG(RCC + 0xf0)
#define RCC_APB4ENR MCU_REG(RCC + 0xf4)
#define PWR_CSR1 0x58024804u
#define PWR_CR3 MCU_REG(0x5802480c)
#define PWR_D3CR 0x58024818u
#define SYSCFG_PWRCR MCU_REG(0x5800042c)
#define FLASH_ACR 0x52002000u
#define DBGMCU_IDC MCU_REG(0x5c001000)
#define AXI_TARG7_FN_MOD MCU_REG(0x51008108)

#define VOS1_HZ 400000000u
#define VOS1_N (VOS1_HZ / (MCU_HSI_HZ / MCU_PLL_M) * MCU_PLL_P)

static uint32_t revision(void) { return DBGMCU_IDC >> 16; } /* 0x1003: Y, 0x2001: X, 0x2003: V */

void mcu_core_start(void) {
    RCC_AHB2ENR |= 7u << 29; /* SRAM1EN, SRAM2EN, SRAM3EN: off after a reset */
    (void)RCC_AHB2ENR;
    if (revision() < 0x2000)
        AXI_TARG7_FN_MOD = 1; /* erratum of revision Y: reads of the AXI SRAM may be wrong */
    mcu_caches_start();
}

void mcu_uart_enable(void) {
    RCC_AHB4ENR |= 1u << (MCU_TX_GPIO >> 10 & 15) | 1u << (MCU_RX_GPIO >> 10 & 15); /* GPIOxEN */
    RCC_D2CCIP2R |= 3u << (MCU_UART == 1 ? 3 : 0);                                  /* USART16SEL, USART28SEL: HSI */
    if (MCU_UART == 1)
        RCC_APB2ENR |= 1u << 4; /* USART1EN */
    else
        RCC_APB1LENR |= 1u << (15 + MCU_UART); /* USART2EN, USART3EN */
    (void)RCC_AHB4ENR;                         /* the enables take two cycles */
}

uint32_t mcu_uart_hz(uint32_t core_hz) {
    (void)core_hz;
    return MCU_HSI_HZ;
}

static void voltage_start(int fast) {
    if (PWR_CR3 & 4)                                                        /* SCUEN: not yet chosen since power came */
        PWR_CR3 = (PWR_CR3 & ~7u) | 1u << 1;                                /* LDOEN */
    mcu_wait(PWR_CSR1, 1u << 13, 1u << 13, "PWR: the supply is not ready"); /* ACTVOSRDY */
    MCU_REG(PWR_D3CR) |= 3u << 14;                                          /* VOS1 */
    mcu_wait(PWR_D3CR, 1u << 13, 1u << 13, "PWR: VOS1 is not reached");     /* VOSRDY */
    if (!fast)
        return;
    RCC_APB4ENR |= 1u << 1; /* SYSCFGEN */
    (void)RCC_APB4ENR;
    SYSCFG_PWRCR |= 1;  /* ODEN: VOS0 */
    (void)SYSCFG_PWRCR; /* arrived, so that VOSRDY is no more that of VOS1 (as in ST's HAL) */
    mcu_wait(PWR_D3CR, 1u << 13, 1u << 13, "PWR: VOS0 is not reached");
}

uint32_t mcu_clock_start(void) {
    const int fast = MCU_CORE_HZ > VOS1_HZ && revision() == 0x2003;
    const int full = fast || MCU_CORE_HZ <= VOS1_HZ; /* the clock that the board asks for */
    RCC_CR |= 1;                                     /* HSION */
    mcu_wait(RCC, 4, 4, "RCC: the 64 MHz oscillator does not start");
    voltage_start(fast);
    RCC_PLLCKSELR = (RCC_PLLCKSELR & ~0x3f3u) | MCU_PLL_M << 4; /* PLLSRC: HSI; DIVM1 */
    /* PLL1RGE: 8 to 16 MHz, PLL1VCOSEL: wide, no fraction; only output P */
    RCC_PLLCFGR = (RCC_PLLCFGR & ~(0xfu | 7u << 16)) | 3u << 2 | 1u << 16;
    RCC_PLL1DIVR = ((full ? MCU_PLL_N : VOS1_N) - 1) | (MCU_PLL_P - 1) << 9 | 1u << 16 | 1u << 24;
    RCC_CR |= 1u << 24; /* PLL1ON */
    const uint32_t latency = full ? MCU_FLASH_WAIT : 2;
    MCU_REG(FLASH_ACR) = 2u << 4 | latency; /* WRHIGHFREQ, LATENCY: AXI at 240 or 200 MHz */
    mcu_wait(FLASH_ACR, 0x3f, 2u << 4 | latency, "FLASH: the wait states are not taken");
    RCC_D1CFGR = 4u << 4 | 8u;      /* D1CPRE / 1, D1PPRE / 2, HPRE / 2 */
    RCC_D2CFGR = 4u << 8 | 4u << 4; /* D2PPRE2, D2PPRE1 / 2 */
    RCC_D3CFGR = 4u << 4;           /* D3PPRE / 2 */
    mcu_wait(RCC, 1u << 25, 1u << 25, "RCC: PLL1 does not lock");
    RCC_CFGR = 3; /* SW: PLL1 */
    mcu_wait(RCC + 0x10, 7u << 3, 3u << 3, "RCC: the core does not take PLL1");
    return full ? MCU_CORE_HZ : VOS1_HZ;
}
