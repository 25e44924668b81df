#include "mcu_boxes.h"
#include "mcu.h"

static int16_t saturate(int32_t v) { return (int16_t)mcu_max(-32768, mcu_min(v, 32767)); }

mcu_box mcu_box_at(int32_t cx, int32_t cy, int32_t w, int32_t h, int score, int label) {
    mcu_box box = {saturate(cx - w), saturate(cy - h), saturate(cx + w),
                   saturate(cy + h), (int16_t)score,   (int16_t)label};
    return box;
}

/* Centre of a cell's box along one axis, in 1/16 pixel. */
static int32_t centre(const mcu_grid *grid, int cell, int8_t v) {
    return cell * grid->stride * 16 + grid->first + (int32_t)(((int64_t)(v - grid->zp) * grid->step + (1 << 15)) >> 16);
}

mcu_box mcu_box_of_cell(const mcu_grid *grid, const int8_t *v, int y, int x, int score, int label) {
    const int32_t cx = centre(grid, x, v[0]), cy = centre(grid, y, v[1]);
    return mcu_box_at(cx, cy, grid->half[v[2] + 128], grid->half[v[3] + 128], score, label);
}

static int64_t area(int32_t w, int32_t h) { return w > 0 && h > 0 ? (int64_t)w * h : 0; }

static inline int overlap(const mcu_box *a, const mcu_box *b, int32_t iou) {
    if (a->x2 <= b->x1 || b->x2 <= a->x1 || a->y2 <= b->y1 || b->y2 <= a->y1) /* most pairs end here */
        return 0;
    const int32_t w = mcu_min(a->x2, b->x2) - mcu_max(a->x1, b->x1);
    const int32_t h = mcu_min(a->y2, b->y2) - mcu_max(a->y1, b->y1);
    if (w <= 0 || h <= 0) /* a box without area */
        return 0;
    const int64_t both = (int64_t)w * h;
    const int64_t either = area(a->x2 - a->x1, a->y2 - a->y1) + area(b->x2 - b->x1, b->y2 - b->y1) - both;
    return both << 15 > either * iou;
}

/* Drops what the box covers from a crowded list. Returns 0 where a better one covers the box. */
static int makes_way(mcu_boxes *list, const mcu_box *box) {
    int kept = 0;
    for (int i = 0; i < list->n; i++) {
        const mcu_box *const other = &list->box[i];
        const int covers = other->label == box->label && overlap(other, box, list->iou);
        if (covers && other->score >= box->score)
            return 0;
        if (covers)
            continue;
        if (kept < i) /* one before it has gone */
            list->box[kept] = *other;
        kept++;
    }
    list->n = kept;
    return 1;
}

void mcu_boxes_add(mcu_boxes *list, mcu_box box) {
    if (list->room <= 0)
        return;
    if (list->n == list->room && !list->crowded) {
        list->n = mcu_boxes_nms(list->box, list->n, list->n, list->iou);
        list->crowded = 1;
    }
    if (list->n == list->room && list->box[list->n - 1].score >= box.score) /* most end here */
        return;
    if (list->crowded && !makes_way(list, &box))
        return;
    int i = mcu_min(list->n, list->room - 1); /* the least one of a full list is worse */
    list->n = i + 1;
    for (; i > 0 && list->box[i - 1].score < box.score; i--)
        list->box[i] = list->box[i - 1];
    list->box[i] = box;
}

int mcu_boxes_nms(mcu_box *list, int n, int most, int32_t iou) {
    int kept = 0;
    for (int i = 0; i < n && kept < most; i++) {
        int free = 1;
        for (int j = 0; j < kept && free; j++)
            free = list[j].label != list[i].label || !overlap(&list[j], &list[i], iou);
        if (free)
            list[kept++] = list[i];
    }
    return kept;
}
