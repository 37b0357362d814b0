/* Doubly linked list whose links live in the members. A list head is a link that belongs to no
 * member. A link that is in no list points at itself. */
#ifndef SMT_BASE_LIST_H
#define SMT_BASE_LIST_H

#include "base/defs.h"

struct smt_list {
    struct smt_list *prev, *next;
};

static inline void smt_list_init(struct smt_list *l)
{
    l->prev = l;
    l->next = l;
}

/* For a head: no members. For a member: in no list. */
static inline bool smt_list_is_empty(const struct smt_list *l)
{
    return l->next == l;
}

static inline void smt_list_insert_between(struct smt_list *l, struct smt_list *prev,
                                           struct smt_list *next)
{
    l->prev = prev;
    l->next = next;
    prev->next = l;
    next->prev = l;
}

/* `l` must be in no list; its links need not be initialised. */
static inline void smt_list_push_tail(struct smt_list *head, struct smt_list *l)
{
    smt_list_insert_between(l, head->prev, head);
}

static inline void smt_list_push_head(struct smt_list *head, struct smt_list *l)
{
    smt_list_insert_between(l, head, head->next);
}

/* Harmless on an initialised link that is in no list. */
static inline void smt_list_remove(struct smt_list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    smt_list_init(l);
}

/* The same for a link that nobody asks for its list before it is pushed again. */
static inline void smt_list_unlink(struct smt_list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
}

/* NULL when empty. */
static inline struct smt_list *smt_list_first(const struct smt_list *head)
{
    return head->next == head ? NULL : head->next;
}

static inline struct smt_list *smt_list_last(const struct smt_list *head)
{
    return head->prev == head ? NULL : head->prev;
}

/* The first link, removed; NULL when empty. */
static inline struct smt_list *smt_list_pop_head(struct smt_list *head)
{
    struct smt_list *l = smt_list_first(head);
    if (l != NULL)
        smt_list_remove(l);
    return l;
}

/* Walks the links; the body may remove `it` but no other member. */
#define SMT_LIST_FOREACH_SAFE(it, tmp, head)                                                       \
    for (struct smt_list *it = (head)->next, *tmp = it->next; it != (head);                        \
         it = tmp, tmp = it->next)

#endif
