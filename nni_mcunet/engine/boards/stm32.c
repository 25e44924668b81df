/* A real STM32: UART, cycle counter, start. Polled, no interrupts, every wait bounded. */
#include "stm32.h"
#include "print.h"

#if defined(STM32F4)
#define USART_SR 0x00
#define USART_RDR 0x04 /* DR, both ways */
#define USART_TDR 0x04
#define USART_BRR 0x08
#define USART_CR1 0x0c
#define USART_ON (1u << 13 | 1u << 3 | 1u << 2) /* UE, TE, RE */
#else
#define USART_SR 0x1c /* ISR */
#define USART_ICR 0x20
#define USART_RDR 0x24
#define USART_TDR 0x28
#define USART_BRR 0x0c
#define USART_CR1 0x00
#define USART_ON (1u << 0 | 1u << 3 | 1u << 2) /* UE, TE, RE */
#endif
#define USART(offset) MCU_REG(MCU_USART + (offset))
#define ORE (1u << 3)
#define RXNE (1u << 5)
#define TC (1u << 6)
#define TXE (1u << 7)

#define DEMCR MCU_REG(0xe000edfc)
#define DWT_CTRL MCU_REG(0xe0001000)
#define DWT_CYCCNT MCU_REG(0xe0001004)
#define DWT_LAR MCU_REG(0xe0001fb0)
#define SCB_AIRCR MCU_REG(0xe000ed0c)
#define POLLS 1000000 /* of a status bit: more than 20 ms at the highest clock, where the slowest takes 2 */

static uint32_t core_hz = MCU_HSI_HZ;
const char mcu_unit[] = "cycles";

static int polled(uint32_t reg, uint32_t mask, uint32_t wanted) {
    for (int i = 0; i < POLLS; i++)
        if ((MCU_REG(reg) & mask) == wanted)
            return 1;
    return 0;
}

void mcu_put(char c) {
    polled(MCU_USART + USART_SR, TXE, TXE); /* a UART that does not send has nowhere to say so */
    USART(USART_TDR) = (uint8_t)c;
}

void mcu_exit(int code) {
    (void)code;
    for (;;)
        __asm__ volatile("wfi");
}

void mcu_fail(const char *what) {
    mcu_print("{\"error\": \"");
    mcu_print(what);
    mcu_print("\"}\n");
    mcu_exit(1);
}

void mcu_wait(uint32_t reg, uint32_t mask, uint32_t wanted, const char *what) {
    if (!polled(reg, mask, wanted))
        mcu_fail(what);
}

/* 64 bits of a counter of 32: right where asked at least every 2^32 cycles (8.9 s at 480 MHz, 42 s at 100 MHz). */
static uint64_t counted;
static uint32_t last;

uint64_t mcu_count(void) {
    const uint32_t now = DWT_CYCCNT;
    counted += now - last;
    last = now;
    return counted;
}

void mcu_uncount(uint64_t since) {
    mcu_count();
    counted = since;
}

uint32_t mcu_clock_hz(void) { return core_hz; }

int mcu_get(void) {
#if defined(USART_ICR)
    USART(USART_ICR) = ORE; /* on the F4 reading the data register clears it */
#endif
    const uint64_t start = mcu_count();
    while (!(USART(USART_SR) & RXNE))
        if (mcu_count() - start > (uint64_t)core_hz / 1000 * MCU_SILENCE_MS)
            return -1;
    return (uint8_t)USART(USART_RDR);
}

void mcu_restart(void) {
    polled(MCU_USART + USART_SR, TC, TC);
    SCB_AIRCR = 0x05fa0004; /* VECTKEY, SYSRESETREQ */
    for (;;) {
    }
}

static void alternate_7(uint32_t gpio, uint32_t pin) {
    volatile uint32_t *const moder = &MCU_REG(gpio), *const afr = &MCU_REG(gpio + 0x20 + pin / 8 * 4);
    *afr = (*afr & ~(15u << pin % 8 * 4)) | 7u << pin % 8 * 4;
    *moder = (*moder & ~(3u << pin * 2)) | 2u << pin * 2;
}

static void uart_start(void) { /* 8N1, 16 samples a bit */
    if (USART(USART_CR1) & USART_ON)
        polled(MCU_USART + USART_SR, TC, TC);
    USART(USART_CR1) = 0;
    USART(USART_BRR) = (mcu_uart_hz(core_hz) + MCU_BAUD / 2) / MCU_BAUD;
    USART(USART_CR1) = USART_ON;
}

static void count_start(void) {
    DEMCR |= 1u << 24;    /* TRCENA */
    DWT_LAR = 0xc5acce55; /* the M7's lock */
    DWT_CTRL |= 1;        /* CYCCNTENA */
    last = DWT_CYCCNT;
}

void mcu_board_start(void) {
    mcu_core_start();
    mcu_uart_enable();
    alternate_7(MCU_TX_GPIO, MCU_TX_PIN);
    alternate_7(MCU_RX_GPIO, MCU_RX_PIN);
    uart_start(); /* at the clock of the reset, so that what follows can be told */
    core_hz = mcu_clock_start();
    uart_start();
    count_start();
    if (DWT_CYCCNT == DWT_CYCCNT)
        mcu_fail("DWT: the cycle counter does not count");
}
