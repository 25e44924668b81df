/* A picture from a DCMI camera, line by line: no frame in SRAM. docs/c.md explains it. Compile it with a generated library,
 * its pictures/mcu_lines.c and your board's CMSIS headers. */
#include "stm32f7xx.h" /* registers; clocks, pins and the sensor's own set-up are your board's */
#include "mcu_lines.h"

#define CAMERA_W 320
#define CAMERA_H 240

/* Two lines that the DMA fills in turn. Not cached: in DTCM, or in a region that the MPU says so. */
static uint8_t dma_lines[2][CAMERA_W * 2] __attribute__((aligned(4)));
static mcu_lines camera;
extern volatile uint32_t milliseconds; /* of your SysTick handler */
static uint32_t started;

static void restart_dma(void) { /* so that a frame begins with dma_lines[0], whatever the last one lost */
    DMA2_Stream1->CR &= ~DMA_SxCR_EN;
    while (DMA2_Stream1->CR & DMA_SxCR_EN) {
    }
    DMA2->LIFCR = 0x3du << 6; /* all flags of stream 1 */
    DMA2_Stream1->PAR = (uint32_t)&DCMI->DR;
    DMA2_Stream1->M0AR = (uint32_t)dma_lines;
    DMA2_Stream1->NDTR = sizeof dma_lines / 4;
    DMA2_Stream1->CR = DMA_SxCR_CHSEL_0 | DMA_SxCR_PSIZE_1 | DMA_SxCR_MSIZE_1 | DMA_SxCR_MINC | DMA_SxCR_CIRC |
                       DMA_SxCR_HTIE | DMA_SxCR_TCIE | DMA_SxCR_EN;
}

void DMA2_Stream1_IRQHandler(void) {
    const uint32_t done = DMA2->LISR & (DMA_LISR_HTIF1 | DMA_LISR_TCIF1);
    DMA2->LIFCR = done;
    if (done == DMA_LISR_HTIF1)
        mcu_lines_put(&camera, dma_lines[0]);
    else if (done == DMA_LISR_TCIF1)
        mcu_lines_put(&camera, dma_lines[1]);
    else if (done)
        mcu_lines_overrun(&camera); /* both: this interrupt came a line too late */
}

void DCMI_IRQHandler(void) { /* of the DMA's priority, so that neither interrupts the other */
    const uint32_t now = DCMI->MISR;
    DCMI->ICR = now;
    if (now & DCMI_MIS_OVR_MIS)
        mcu_lines_overrun(&camera);
    if (now & DCMI_MIS_VSYNC_MIS) {
        restart_dma();
        mcu_lines_frame(&camera);
    }
}

static int wait_for_line(void *user) {
    (void)user;
    __WFI();
    return milliseconds - started > 1000; /* not 0: give up */
}

int see(void) { /* 0, or what mcu_lines.h says went wrong */
    camera.step = 3;
    camera.first_line = (CAMERA_H - 3 * MCU_INPUT_H) / 2;
    camera.first_column = (CAMERA_W - 3 * MCU_INPUT_W) / 2;
    camera.high_first = 1;
    camera.frames = 8;
    camera.wait = wait_for_line;
    started = milliseconds;
    mcu_lines_start(&camera);
    DCMI->IER = DCMI_IER_VSYNC_IE | DCMI_IER_OVR_IE;
    DCMI->CR |= DCMI_CR_CAPTURE | DCMI_CR_ENABLE;
    mcu_run(mcu_read_lines, &camera);
    DCMI->CR &= ~DCMI_CR_CAPTURE;
    return camera.error;
}
