/* A TCG plugin for QEMU 7.2: what a bare-metal program of one core executes, and from which call.
 *
 * Arguments: out=FILE and, any number of times, caller=LO:HI (a function whose calls are told from each other), cached=LO:HI (an
 * address range read through the data cache); icache=SETS:WAYS:SHIFT and dcache= (a line has 1 << SHIFT bytes). Numbers
 * are hexadecimal. The site of an instruction is the last one of a caller before it: its call, or itself. At the end:
 *     i SITE ADDRESS SIZE EXECUTED ENTERED    ENTERED: times that it did not follow the one before it in memory
 *     m SITE JUMPS NEXTS MISALIGNED MISSES..  lines missed by fetches behind a jump and by others, extra accesses of
 *                                             misaligned data, data lines missed in each cached range */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of qemu-plugin.h, which Debian does not package. */
typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS, READ_AND_WRITE = 3 };
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
extern unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);
extern bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*f)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*f)(unsigned, void *),
                                                   int flags, void *data);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
                                             void (*f)(unsigned, qemu_plugin_meminfo_t, uint64_t, void *), int flags,
                                             int rw, void *data);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*f)(qemu_plugin_id_t, void *), void *data);
int qemu_plugin_version = 1;

enum { MOST = 1 << 16, RANGES = 4, LINES = 1024 };

typedef struct {
    uint64_t lo, hi;
} range;

typedef struct {
    uint64_t executed, entered;
} count;

typedef struct {
    count *counts; /* [size], of each instruction */
    uint32_t size;
    uint64_t jumps, nexts, misaligned, misses[RANGES];
} site;

typedef struct {
    uint64_t address;
    uint32_t size, index;
    bool caller;
} instruction;

typedef struct {
    uint32_t sets, ways, shift;
    uint64_t lines[LINES]; /* [sets][ways], the latest first; 1 + the number of the line */
} cache;

static const char *out;
static range callers[RANGES], cached[RANGES];
static int n_callers, n_cached;
static cache fetches = {1, 1, 4, {0}}, reads = {1, 1, 4, {0}};
static instruction *by_address[MOST], *by_index[MOST]; /* the first a hash table */
static uint32_t n_instructions;
static site sites[MOST]; /* [0]: before the first caller; else by index of the instruction + 1 */
static site *here = sites;
static uint64_t next_address, fetched;

static int within(const range *ranges, int n, uint64_t address) {
    for (int i = 0; i < n; i++)
        if (ranges[i].lo <= address && address < ranges[i].hi)
            return i;
    return -1;
}

/* Whether the line was there; it is the latest now. */
static bool hit(cache *c, uint64_t line) {
    uint64_t *set = c->lines + line % c->sets * c->ways;
    uint32_t at = 0;
    while (at < c->ways - 1 && set[at] != line + 1)
        at++;
    const bool found = set[at] == line + 1;
    memmove(set + 1, set, at * sizeof *set);
    set[0] = line + 1;
    return found;
}

static instruction *known(uint64_t address, uint32_t size) {
    uint32_t slot = (uint32_t)(address >> 1) % MOST;
    while (by_address[slot] && by_address[slot]->address != address)
        slot = (slot + 1) % MOST;
    if (!by_address[slot]) {
        if (n_instructions == MOST - 1)
            abort();
        instruction *fresh = malloc(sizeof *fresh);
        *fresh = (instruction){address, size, n_instructions, within(callers, n_callers, address) >= 0};
        by_address[slot] = by_index[n_instructions++] = fresh;
    }
    return by_address[slot];
}

static count *counted(site *s, uint32_t index) {
    if (index >= s->size) {
        const uint32_t size = n_instructions + 256;
        s->counts = realloc(s->counts, size * sizeof(count));
        memset(s->counts + s->size, 0, (size - s->size) * sizeof(count));
        s->size = size;
    }
    return s->counts + index;
}

static void executed(unsigned cpu, void *data) {
    const instruction *insn = data;
    if (insn->caller)
        here = sites + 1 + insn->index;
    const bool jump = insn->address != next_address;
    count *c = counted(here, insn->index);
    c->executed++;
    c->entered += jump;
    next_address = insn->address + insn->size;
    for (uint64_t line = insn->address >> fetches.shift; line <= (next_address - 1) >> fetches.shift; line++)
        if (line != fetched) {
            fetched = line;
            if (!hit(&fetches, line))
                jump ? here->jumps++ : here->nexts++;
        }
}

static void accessed(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *data) {
    const unsigned shift = qemu_plugin_mem_size_shift(info);
    const uint64_t last = address + (1u << shift) - 1;
    if (shift && shift < 3)
        here->misaligned += address & 1 ? shift : address >> 1 & (shift == 2);
    const int range = within(cached, n_cached, address);
    if (range >= 0 && !qemu_plugin_mem_is_store(info))
        for (uint64_t line = address >> reads.shift; line <= last >> reads.shift; line++)
            here->misses[range] += !hit(&reads, line);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        instruction *own = known(qemu_plugin_insn_vaddr(insn), (uint32_t)qemu_plugin_insn_size(insn));
        qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, NO_REGISTERS, own);
        qemu_plugin_register_vcpu_mem_cb(insn, accessed, NO_REGISTERS, READ_AND_WRITE, NULL);
    }
}

static void ended(qemu_plugin_id_t id, void *data) {
    FILE *file = fopen(out, "w");
    if (!file)
        abort();
    for (site *s = sites; s < sites + 1 + n_instructions; s++) {
        const unsigned long at = s == sites ? 0 : (unsigned long)by_index[s - sites - 1]->address;
        for (uint32_t i = 0; i < n_instructions && i < s->size; i++)
            if (s->counts[i].executed)
                fprintf(file, "i %lu %lu %u %lu %lu\n", at, (unsigned long)by_index[i]->address, by_index[i]->size,
                        (unsigned long)s->counts[i].executed, (unsigned long)s->counts[i].entered);
        if (!s->size)
            continue;
        fprintf(file, "m %lu %lu %lu %lu", at, (unsigned long)s->jumps, (unsigned long)s->nexts,
                (unsigned long)s->misaligned);
        for (int i = 0; i < n_cached; i++)
            fprintf(file, " %lu", (unsigned long)s->misses[i]);
        fputc('\n', file);
    }
    fclose(file);
}

static bool read_cache(cache *c, const char *text) {
    return sscanf(text, "%x:%x:%x", &c->sets, &c->ways, &c->shift) == 3 && c->sets && c->ways &&
           c->sets * c->ways <= LINES;
}

static bool read_range(range *ranges, int *n, const char *text) {
    unsigned long lo, hi;
    if (*n == RANGES || sscanf(text, "%lx:%lx", &lo, &hi) != 2)
        return false;
    ranges[(*n)++] = (range){lo, hi};
    return true;
}

static bool argument(const char *text) {
    const char *value = strchr(text, '=');
    if (!value++)
        return false;
    if (!strncmp(text, "out=", 4))
        return (out = strdup(value)) != NULL;
    if (!strncmp(text, "caller=", 7))
        return read_range(callers, &n_callers, value);
    if (!strncmp(text, "cached=", 7))
        return read_range(cached, &n_cached, value);
    if (!strncmp(text, "icache=", 7))
        return read_cache(&fetches, value);
    return !strncmp(text, "dcache=", 7) && read_cache(&reads, value);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (!argument(argv[i])) {
            fprintf(stderr, "counts.c: not understood: %s\n", argv[i]);
            return 1;
        }
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
