/* What detectors have in common: the box, the list of the best ones, non-maximum suppression. The numpy twin is
 * boxes.py. */
#ifndef MCU_BOXES_H
#define MCU_BOXES_H
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

typedef struct {
    int16_t x1, y1, x2, y2; /* 1/16 pixel of the model's input, not clipped to it */
    int16_t score;          /* 1/32768 */
    int16_t label;
} mcu_box;

/* Centre and half width and height, in 1/16 pixel, as corners; what int16 cannot hold saturates. */
mcu_box mcu_box_at(int32_t cx, int32_t cy, int32_t w, int32_t h, int score, int label);

/* Boxes by offsets from a grid: the centre is linear in the first two of a cell's values, half the sides are a table of
 * the others. */
typedef struct {
    int16_t stride, first; /* pixels a cell; the first cell's point, 1/16 pixel */
    int16_t zp;            /* value of no offset */
    int32_t step;          /* offset of one value, 2^-20 pixel */
    const uint16_t *half;  /* [256] of value + 128, 1/16 pixel */
} mcu_grid;

/* The box of the cell (y, x). v: [4] */
mcu_box mcu_box_of_cell(const mcu_grid *grid, const int8_t *v, int y, int x, int score, int label);

/* The best boxes so far, which fall by score. */
typedef struct {
    mcu_box *box; /* [room] */
    int n, room;  /* used; room <= 0: nothing is touched */
    int32_t iou;  /* see mcu_boxes_nms */
    int crowded;  /* 1 once a box has found no room: from then on no two of a label overlap by more */
} mcu_boxes;

/* Puts a box where its score belongs, behind its equals. A full list is suppressed first, so that many boxes on one
 * object leave room for others; if that frees no place, the least one falls out. */
void mcu_boxes_add(mcu_boxes *list, mcu_box box);

/* Greedy suppression of n boxes that fall by score: one that overlaps a better one of its label by more than iou (in
 * 1/32768) is dropped. Moves the first `most` that stay to the front and returns their number. */
int mcu_boxes_nms(mcu_box *list, int n, int most, int32_t iou);

#if defined(__cplusplus)
}
#endif

#endif
