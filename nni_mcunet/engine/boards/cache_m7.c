#include "cache_m7.h"
#include "stm32.h"

#define MPU_CTRL MCU_REG(0xe000ed94)
#define MPU_RNR MCU_REG(0xe000ed98)
#define MPU_RBAR MCU_REG(0xe000ed9c)
#define MPU_RASR MCU_REG(0xe000eda0)
#define SCB_CCR MCU_REG(0xe000ed14)
#define SCB_CCSIDR MCU_REG(0xe000ed80)
#define SCB_CSSELR MCU_REG(0xe000ed84)
#define SCB_ICIALLU MCU_REG(0xe000ef50)
#define SCB_DCISW MCU_REG(0xe000ef60)

static void barrier(void) { __asm__ volatile("dsb\n isb" : : : "memory"); }

/* No access to 0x60000000..0xdfffffff: the core may read ahead into memory that is not there and hang (AN4838). The
 * rest keeps its default attributes: flash and SRAM cached. */
static void protect(void) {
    MPU_RNR = 0;
    MPU_RBAR = 0;
    MPU_RASR = 1u << 28 | 0x87u << 8 | 31u << 1 | 1; /* XN, no access, not in sub-regions 0, 1, 2 and 7, 4 GB, on */
    MPU_CTRL = 4 | 1;                                /* PRIVDEFENA, ENABLE */
    barrier();
}

void mcu_caches_start(void) {
    protect();
    SCB_ICIALLU = 0;
    barrier();
    SCB_CCR |= 1u << 17; /* IC */
    barrier();
    if (SCB_CCR & 1u << 16) /* a debugger came through here before: the cache holds what memory lacks */
        return;
    SCB_CSSELR = 0; /* the data cache of level 1 */
    barrier();
    const uint32_t sets = SCB_CCSIDR >> 13 & 0x7fff, ways = SCB_CCSIDR >> 3 & 0x3ff; /* each less one */
    for (uint32_t set = 0; set <= sets; set++)
        for (uint32_t way = 0; way <= ways; way++)
            SCB_DCISW = set << 5 | way << 30;
    barrier();
    SCB_CCR |= 1u << 16; /* DC */
    barrier();
}
