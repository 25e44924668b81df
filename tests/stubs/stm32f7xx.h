/* What the examples of docs/c.md take of ST's device header, so that they compile without it. */
#include <stdint.h>
typedef struct {
    volatile uint32_t CR, SR, RISR, IER, MISR, ICR, ESCR, ESUR, CWSTRTR, CWSIZER, DR;
} DCMI_TypeDef;
typedef struct {
    volatile uint32_t CR, NDTR, PAR, M0AR, M1AR, FCR;
} DMA_Stream_TypeDef;
typedef struct {
    volatile uint32_t LISR, HISR, LIFCR, HIFCR;
} DMA_TypeDef;
#define DCMI ((DCMI_TypeDef *)0x50050000)
#define DMA2 ((DMA_TypeDef *)0x40026400)
#define DMA2_Stream1 ((DMA_Stream_TypeDef *)0x40026428)
#define DCMI_CR_CAPTURE (1u << 0)
#define DCMI_CR_ENABLE (1u << 14)
#define DCMI_MIS_OVR_MIS (1u << 1)
#define DCMI_MIS_VSYNC_MIS (1u << 3)
#define DCMI_IER_OVR_IE (1u << 1)
#define DCMI_IER_VSYNC_IE (1u << 3)
#define DMA_LISR_HTIF1 (1u << 10)
#define DMA_LISR_TCIF1 (1u << 11)
#define DMA_SxCR_EN (1u << 0)
#define DMA_SxCR_HTIE (1u << 3)
#define DMA_SxCR_TCIE (1u << 4)
#define DMA_SxCR_CIRC (1u << 8)
#define DMA_SxCR_MINC (1u << 10)
#define DMA_SxCR_PSIZE_1 (2u << 11)
#define DMA_SxCR_MSIZE_1 (2u << 13)
#define DMA_SxCR_CHSEL_0 (1u << 25)
#define __WFI() __asm__ volatile("wfi")
