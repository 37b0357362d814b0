/* The intrusive list: order, removal anywhere, removal during a walk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int value;
    struct smt_list link;
};

static struct item *item_of(struct smt_list *l)
{
    return SMT_CONTAINER_OF(l, struct item, link);
}

static void check(const struct smt_list *head, const int *want, size_t n)
{
    size_t i = 0;
    for (const struct smt_list *l = head->next; l != head; l = l->next) {
        assert_true(i < n);
        assert_int_equal(item_of((struct smt_list *)l)->value, want[i++]);
        assert_ptr_equal(l->next->prev, l);
    }
    assert_int_equal(i, n);
    assert_ptr_equal(head->prev->next, head);
}

static void test_order_and_removal(void **state)
{
    struct smt_list head;
    struct item items[4];
    smt_list_init(&head);
    assert_true(smt_list_is_empty(&head));
    assert_null(smt_list_first(&head));
    assert_null(smt_list_last(&head));
    assert_null(smt_list_pop_head(&head));
    for (int i = 0; i < 4; i++)
        items[i].value = i;
    smt_list_push_tail(&head, &items[1].link);
    smt_list_push_tail(&head, &items[2].link);
    smt_list_push_head(&head, &items[0].link);
    smt_list_push_tail(&head, &items[3].link);
    check(&head, (int[]){0, 1, 2, 3}, 4);
    assert_ptr_equal(smt_list_first(&head), &items[0].link);
    assert_ptr_equal(smt_list_last(&head), &items[3].link);

    smt_list_remove(&items[1].link);
    assert_true(smt_list_is_empty(&items[1].link));
    check(&head, (int[]){0, 2, 3}, 3);
    smt_list_remove(&items[1].link);
    check(&head, (int[]){0, 2, 3}, 3);

    assert_ptr_equal(smt_list_pop_head(&head), &items[0].link);
    check(&head, (int[]){2, 3}, 2);
}

static void test_walk_may_remove(void **state)
{
    struct smt_list head;
    struct item items[6];
    smt_list_init(&head);
    for (int i = 0; i < 6; i++) {
        items[i].value = i;
        smt_list_push_tail(&head, &items[i].link);
    }
    int seen = 0;
    SMT_LIST_FOREACH_SAFE(it, tmp, &head) {
        assert_int_equal(item_of(it)->value, seen++);
        if (item_of(it)->value % 2 == 0)
            smt_list_remove(it);
    }
    assert_int_equal(seen, 6);
    check(&head, (int[]){1, 3, 5}, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_removal),
        cmocka_unit_test(test_walk_may_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
