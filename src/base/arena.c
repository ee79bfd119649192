#include <jpt/base.h>
#include <stdlib.h>
#include <string.h>

struct jpt_arena_block {
    struct jpt_arena_block *next;
    size_t                  used, cap;
    _Alignas(16) unsigned char data[];
};

void *jpt_arena_alloc(jpt_arena *a, size_t n) {
    size_t need;
    if (!jpt_add_size(n ? n : 1, 15, &need))
        return NULL;
    need &= ~(size_t)15;
    struct jpt_arena_block *b = a->head;
    if (!b || b->cap - b->used < need) {
        size_t cap = need > 65536 ? need : 65536, total;
        if (!jpt_add_size(sizeof *b, cap, &total) || !(b = malloc(total)))
            return NULL;
        *b = (struct jpt_arena_block){.next = a->head, .cap = cap};
        a->head = b;
    }
    void *p = b->data + b->used;
    b->used += need;
    a->used_bytes += need;
    return memset(p, 0, need);
}

char *jpt_arena_strndup(jpt_arena *a, const char *p, size_t n) {
    size_t total;
    char  *s = jpt_add_size(n, 1, &total) ? jpt_arena_alloc(a, total) : NULL;
    if (s && n)
        memcpy(s, p, n);
    return s;
}

void jpt_arena_fini(jpt_arena *a) {
    for (struct jpt_arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    *a = (jpt_arena){0};
}
