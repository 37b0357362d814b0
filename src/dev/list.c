/* The table of devices, and how one is opened by name.
 *
 * Owns the one array of rows. A new device is a file, a line here and a line in meson.build. The
 * loop pair and tap are not rows: nobody opens them by name. */
#include "dev/shm.h"

#include <stdio.h>
#include <string.h>

const struct smt_dev_ops *const smt_dev_list[] = {
    &smt_udp_ops,
    &smt_af_ops,
    &smt_shm_ops,
    &smt_ud_ops,
    &smt_mlx5_ops,
    &smt_ip_ops,
};

const unsigned smt_dev_n_list = SMT_ARRAY_LEN(smt_dev_list);

static const struct smt_dev_ops *row_find(const char *spec)
{
    size_t len = strcspn(spec, ":,");
    for (unsigned i = 0; i < smt_dev_n_list; i++) {
        const char *name = smt_dev_list[i]->name;
        if (strlen(name) == len && memcmp(name, spec, len) == 0)
            return smt_dev_list[i];
    }
    return NULL;
}

static int fail_unknown(const struct smt_dev_config *config)
{
    char names[256] = "";
    size_t len = 0;
    for (unsigned i = 0; i < smt_dev_n_list && len < sizeof(names); i++)
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s", i > 0 ? ", " : "",
                                smt_dev_list[i]->name);
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENODEV,
                        "no device \"%.60s\" in this build; there is: %s", config->spec, names);
}

/* Where it cannot be, everything goes as the device itself does it. */
static struct smt_dev *memory_around(const struct smt_dev_config *config, struct smt_dev *dev)
{
    struct smt_dev_config c = *config;
    c.error_text = NULL;
    struct smt_dev *around;
    bool may = c.by_memory && (dev->ops->caps & SMT_DEV_CAP_LOCAL) != 0;
    return may && smt_shm_wrap(&c, dev, &around) == 0 ? around : dev;
}

int smt_dev_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    *out = NULL;
    struct smt_dev_config c = *config;
    if (c.spec == NULL || c.spec[0] == '\0')
        c.spec = smt_dev_list[0]->name;
    if (c.error_text != NULL && c.error_text_len > 0)
        c.error_text[0] = '\0';
    const struct smt_dev_ops *row = row_find(c.spec);
    if (row == NULL)
        return fail_unknown(&c);
    struct smt_dev *dev;
    int r = row->open(&c, &dev);
    if (r < 0)
        return r;
    dev = memory_around(&c, dev);
    if (c.tap != NULL && c.tap[0] != '\0') {
        struct smt_dev *inner = dev;
        r = smt_dev_tap(c.tap, inner, c.error_text, c.error_text_len, &dev);
        if (r < 0) {
            inner->ops->close(inner);
            return r;
        }
    }
    *out = dev;
    return 0;
}
