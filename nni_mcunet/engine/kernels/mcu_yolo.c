#include "mcu_yolo.h"
#include "mcu.h"

static int16_t saturate(int32_t v) { return (int16_t)mcu_max(-32768, mcu_min(v, 32767)); }

/* Half of size * exp(t), in 1/16 pixel. */
static int32_t half_length(int32_t size, uint32_t e) {
    uint64_t half = ((uint64_t)(uint32_t)size * e + (1u << 20)) >> 21;
    return half < 65535 ? (int32_t)half : 65535;
}

/* (cell + sigmoid) * stride, in 1/16 pixel. */
static int32_t centre(int cell, int16_t sigmoid, int stride) {
    return cell * stride * 16 + ((sigmoid * stride + (1 << 10)) >> 11);
}

/* v: [5 + classes] of the anchor a in the cell (y, x). */
static mcu_box box_of(const mcu_yolo_map *m, const int8_t *v, int y, int x, int a) {
    const int32_t cx = centre(x, m->sigmoid[v[0] + 128], m->stride);
    const int32_t cy = centre(y, m->sigmoid[v[1] + 128], m->stride);
    const int32_t w = half_length(m->sizes[2 * a], m->exp[v[2] + 128]);
    const int32_t h = half_length(m->sizes[2 * a + 1], m->exp[v[3] + 128]);
    mcu_box box = {saturate(cx - w), saturate(cy - h), saturate(cx + w), saturate(cy + h), 0, 0};
    return box;
}

/* Puts a box where its score belongs, behind its equals; the least one falls out of a full list. Returns the count. */
static int insert(mcu_box *list, int n, int room, mcu_box box) {
    int i = n;
    if (n == room && list[--i].score >= box.score)
        return n;
    for (; i > 0 && list[i - 1].score < box.score; i--)
        list[i] = list[i - 1];
    list[i] = box;
    return n < room ? n + 1 : n;
}

/* Adds the candidates of one map to n boxes. map: [h][w][anchors][5 + classes], boxes: [room]. */
static int scan(const mcu_yolo *op, const mcu_yolo_map *m, const int8_t *map, mcu_box *boxes, int n, int room) {
    for (int y = 0; y < m->h; y++)
        for (int x = 0; x < m->w; x++)
            for (int a = 0; a < m->anchors; a++, map += 5 + op->classes) {
                if (map[4] < m->least_object)
                    continue;
                for (int c = 0; c < op->classes; c++) {
                    if (map[5 + c] < m->least_class)
                        continue;
                    mcu_box box = box_of(m, map, y, x, a);
                    box.score = (int16_t)((m->sigmoid[map[4] + 128] * m->sigmoid[map[5 + c] + 128] + (1 << 14)) >> 15);
                    box.label = (int16_t)c;
                    n = insert(boxes, n, room, box);
                }
            }
    return n;
}

static int64_t area(int x1, int y1, int x2, int y2) { return (int64_t)mcu_max(x2 - x1, 0) * mcu_max(y2 - y1, 0); }

static int overlap(const mcu_box *a, const mcu_box *b, int32_t iou) {
    const int64_t both = area(mcu_max(a->x1, b->x1), mcu_max(a->y1, b->y1), mcu_min(a->x2, b->x2), mcu_min(a->y2, b->y2));
    const int64_t either = area(a->x1, a->y1, a->x2, a->y2) + area(b->x1, b->y1, b->x2, b->y2) - both;
    return both << 15 > either * iou;
}

int mcu_yolo_boxes(const mcu_yolo *op, const int8_t *const *maps, mcu_box *boxes, int room) {
    int n = 0, kept = 0;
    for (int i = 0; i < op->maps; i++)
        n = scan(op, &op->map[i], maps[i], boxes, n, mcu_min(op->candidates, room));
    for (int i = 0; i < n && kept < op->most; i++) {
        int free = 1;
        for (int j = 0; j < kept && free; j++)
            free = boxes[j].label != boxes[i].label || !overlap(&boxes[j], &boxes[i], op->iou);
        if (free)
            boxes[kept++] = boxes[i];
    }
    return kept;
}
