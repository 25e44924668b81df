/* S3FD faces from int8 class and box maps, in integers. The numpy twin is s3fd.py. */
#ifndef MCU_FACE_H
#define MCU_FACE_H
#include "mcu_boxes.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* One level: a square anchor in the middle of each cell, two maps, NHWC: [h][w][1 + background] (face first) and
 * [h][w][4] (dx, dy, dw, dh). */
typedef struct {
    int16_t h, w, background;
    int16_t least;        /* face - max(background) that passes the threshold; 256: none does */
    const int16_t *score; /* [256 - least] of face - max(background) - least, 1/32768 */
    mcu_grid grid;        /* of the anchors' centres */
} mcu_face_level;

typedef struct {
    int16_t levels, most, candidates; /* most: boxes kept; candidates: room of the list */
    int32_t iou;                      /* above it the lesser of two boxes is dropped; 1/32768 */
    const mcu_face_level *level;      /* [levels] */
} mcu_face;

/* The best boxes by falling score, equals in the maps' order; returns their number, at most op->most. The candidates
 * are collected in `boxes` too: room for less than op->candidates limits their number. maps: [2 * op->levels], the
 * class and the box map of each level in turn; boxes: [room]. Where room <= 0 or boxes is null, 0. */
int mcu_face_boxes(const mcu_face *op, const int8_t *const *maps, mcu_box *boxes, int room);

#if defined(__cplusplus)
}
#endif

#endif
